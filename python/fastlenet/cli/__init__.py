"""The command lines: flags, settings, one line and an exit code for whatever a user can get wrong."""
