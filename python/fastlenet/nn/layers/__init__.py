"""The layers, with PyTorch's names and arguments. They compute with the ops of a backend. `fastlenet.nn` has all of them."""
