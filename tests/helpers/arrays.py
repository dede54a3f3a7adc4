"""Inputs and guarded outputs."""

from fastlenet.testing.contract import STYLES, styled
from fastlenet.testing.description import Array
from fastlenet.testing.host import Guarded
from fastlenet.testing.values import integers, normals

__all__ = ["STYLES", "Array", "Guarded", "integers", "normals", "styled"]
