"""Data sets: the bundled MNIST, your own arrays (Dataset.from_arrays), and files and named sets (load)."""

from fastlenet.data.catalogue import FORMATS, NAMES, load, named
from fastlenet.data.cifar import load_cifar
from fastlenet.data.csv import load_csv
from fastlenet.data.dataset import Dataset
from fastlenet.data.digits import load_digits
from fastlenet.data.folder import load_folder
from fastlenet.data.idx_folder import load_idx_directory
from fastlenet.data.mnist import files, load_mnist
from fastlenet.data.npz import load_npz
from fastlenet.data.reading import DataError
from fastlenet.data.torchvision import TORCHVISION, load_torchvision

__all__ = [
    "FORMATS",
    "NAMES",
    "TORCHVISION",
    "DataError",
    "Dataset",
    "files",
    "load",
    "load_cifar",
    "load_csv",
    "load_digits",
    "load_folder",
    "load_idx_directory",
    "load_mnist",
    "load_npz",
    "load_torchvision",
    "named",
]
