"""The networks: LeNet, and the assignment's chain of sigmoids."""
