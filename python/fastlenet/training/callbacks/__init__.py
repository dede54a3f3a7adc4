"""What a trainer calls back: the console, the log, the plot, the profile."""
