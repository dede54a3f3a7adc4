"""Networks that files of other programs describe, as networks of fastlenet."""
