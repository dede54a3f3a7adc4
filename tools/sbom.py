"""Checks the bill of materials in a wheel (PEP 770): by CycloneDX's schema, and that it says what is inside.

python tools/sbom.py WHEEL REQUIREMENTS      in an environment that has cyclonedx-python-lib[json-validation]
"""

from __future__ import annotations

import email
import json
import re
import sys
import zipfile
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def main(wheel: str, requirements: str) -> None:
    files = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in files.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
    package = email.message_from_bytes(files.read(metadata))
    names = [name for name in files.namelist() if ".dist-info/sboms/" in name and name.endswith(".json")]
    assert names == [metadata.replace("METADATA", "sboms/fastlenet.cdx.json")], names
    text = files.read(names[0]).decode()
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert problem is None, problem

    bill = json.loads(text)
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == (package["Name"], package["Version"]), root
    assert root["licenses"] == [{"expression": package["License-Expression"]}], root
    (pybind11,) = re.findall(r"^pybind11==(\S+)", Path(requirements).read_text(), re.MULTILINE)
    parts = {part["name"]: part for part in bill["components"]}
    assert list(parts) == ["pybind11", "MNIST"], list(parts)
    assert parts["pybind11"]["version"] == pybind11, parts["pybind11"]
    assert parts["pybind11"]["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert parts["MNIST"]["licenses"] == [{"license": {"id": "CC-BY-SA-3.0"}}]
    assert sum(name.startswith("fastlenet/data/mnist/") and name.endswith(".gz") for name in files.namelist()) == 4
    # Every other library is loaded, not contained: one extension, and none beside it.
    assert sum(".so" in name for name in files.namelist()) == 1
    contents = ", ".join(f"{part['name']} {part['version']}" for part in parts.values())
    print(f"{names[0]}: {root['name']} {root['version']} with {contents}")


if __name__ == "__main__":
    main(*sys.argv[1:])
