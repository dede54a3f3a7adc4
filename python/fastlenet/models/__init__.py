"""The networks: LeNet, and a chain of three weights and two sigmoids."""
