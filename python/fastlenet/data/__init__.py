"""Data sets: the bundled MNIST, folders of IDX files, and those of torchvision."""

from fastlenet.data.dataset import Dataset
from fastlenet.data.idx import DataError
from fastlenet.data.idx_folder import TORCHVISION_NAMES, load_idx_directory
from fastlenet.data.mnist import files, load_mnist
from fastlenet.data.torchvision import load_torchvision

__all__ = ["TORCHVISION_NAMES", "DataError", "Dataset", "files", "load_idx_directory", "load_mnist", "load_torchvision"]
