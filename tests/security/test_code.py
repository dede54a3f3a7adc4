"""The package unpickles nothing, evaluates nothing, imports no module that a file names, and opens no connection of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastlenet

PACKAGE = Path(fastlenet.__file__).parent

PICKLES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "dbm"}
RUNNING = {"eval", "exec", "compile", "__import__"}
NETWORK = {"socket", "urllib", "http", "ftplib", "requests", "ssl", "smtplib"}

# Who calls import_module with a name that is no text in the source, and where the name is from.
IMPORTING = {
    "__init__.py": "the package's own table",
    "cli/main.py": "the table of commands",
    "distributed/searches/space.py": "a choice of tomllib, tomli and json",
    "exports/writing.py": "the table of formats",
    "nn/frozen.py": "a pickle of the user's own, which Python has begun to read",
    "nn/sequential.py": "a pickle of the user's own, which Python has begun to read",
    "profiling.py": "the backend's own name",
}
CONNECTING = {
    "distributed/cluster.py": "asks the scheduler's address that the user gave",
    "distributed/mpi.py": "the host's name",
}


def findings(source: str) -> Iterator[str]:
    """What a module does that could run the code of a file, or reach the network, as `word: detail`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            for name in names:
                if name.partition(".")[0] in PICKLES and name != "joblib.parallel":  # which reads no file
                    yield f"pickle: {name}"
                if name.partition(".")[0] in NETWORK:
                    yield f"network: {name}"
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in RUNNING:
            yield f"run: {called.id}"
        if isinstance(called, ast.Attribute):
            where = ast.unparse(called.value)
            if where in ("np", "numpy") and called.attr == "load":
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                if given.get("allow_pickle", "False") != "False":
                    yield "pickle: np.load"
            if where == "torch" and called.attr == "load":
                yield "pickle: torch.load"
            if any(each.arg == "allow_pickle" and ast.unparse(each.value) != "False" for each in node.keywords):
                yield f"pickle: {called.attr}"
            if called.attr == "import_module" and not isinstance(node.args[0], ast.Constant):
                yield "import: of a computed name"


def found() -> dict[str, set[str]]:
    """The findings in the package, by their first word."""
    by_word: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for finding in findings(path.read_text()):
            by_word.setdefault(finding.partition(":")[0], set()).add(str(path.relative_to(PACKAGE)))
    return by_word


@pytest.mark.slow
def test_no_module_runs_what_a_file_says() -> None:
    by_word = found()
    assert by_word.get("pickle", set()) == set()
    assert by_word.get("run", set()) == set()
    assert by_word.get("import", set()) == IMPORTING.keys()
    assert by_word.get("network", set()) == CONNECTING.keys()


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("import pickle", "pickle"),
        ("from marshal import loads", "pickle"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "pickle"),
        ("import numpy as np\nnp.load(path, allow_pickle=chosen)", "pickle"),
        ("read_array(file, allow_pickle=True)\nformat.read_array(file, allow_pickle=True)", "pickle"),
        ("torch.load(path)", "pickle"),
        ("eval(text)", "run"),
        ("exec(text, {})", "run"),
        ("compile(text, 'x', 'exec')", "run"),
        ("__import__(name)", "run"),
        ("importlib.import_module(name)", "import"),
        ("import urllib.request", "network"),
    ],
)
def test_each_would_be_found(source: str, word: str) -> None:
    assert word in {finding.partition(":")[0] for finding in findings(source)}


OFFLINE = """
import sys
tried = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto", "urllib.Request"):
        tried.append((event, arguments[1:]))
        raise OSError("no network in this test")
sys.addaudithook(hook)
import socket
if sys.argv[1] == "self-test":
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    except OSError:
        pass
else:
    from fastlenet.cli.main import main
    data, out = sys.argv[2:]
    trained = ["train", "--data-dir", data, "--epochs", "1", "--threads", "1"]
    assert main([*trained, "--save-model", out, "--log-json", out + ".jsonl"]) == 0
    assert main(["evaluate", out, "--data-dir", data]) == 0
    import numpy as np
    import fastlenet
    fastlenet.load(out).predict(np.zeros((2, 28, 28), np.uint8))
print("tried", tried)
"""


DOWNLOADING = """
import sys
from types import ModuleType, SimpleNamespace
downloads, sockets = [], []
def hook(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        sockets.append(event)
        raise OSError("no network in this test")
sys.addaudithook(hook)
import numpy as np
import socket
class KMNIST:
    def __init__(self, root, *, train, download):
        downloads.append(download)
        if "missing" in root and not download:
            raise RuntimeError("Dataset not found")
        if download:
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        self.data, self.targets, self.classes = np.zeros((20, 28, 28), np.uint8), np.arange(20) % 10, list("abcdefghij")
torchvision = ModuleType("torchvision")
torchvision.datasets = ModuleType("torchvision.datasets")
torchvision.datasets.KMNIST = KMNIST
sys.modules |= {"torchvision": torchvision, "torchvision.datasets": torchvision.datasets}
from fastlenet.data import DataError, load
from fastlenet.data.torchvision import load_torchvision
for source, root in zip(sys.argv[1::2], sys.argv[2::2]):
    downloads.clear(), sockets.clear()
    try:
        load_torchvision("KMNIST", root) if source == "KMNIST" else load(root if source == "path" else source)
        said = "read"
    except DataError as error:
        said = "refused"
    print(source, said, downloads, sockets)
"""


def test_only_torchvision_downloads_and_only_what_is_missing_and_named(small_mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    asked = [("mnist", "-"), ("path", small_mnist), ("path", tmp_path / "none"), ("KMNIST", "here"), ("KMNIST", "missing")]
    arguments = [str(part) for pair in asked for part in pair]
    done = subprocess.run([sys.executable, "-c", DOWNLOADING, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "mnist read [] []",
        "path read [] []",
        "path refused [] []",
        "KMNIST read [False, False] []",
        "KMNIST refused [False, True] ['socket.getaddrinfo']",
    ]


def offline(*arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, "-c", OFFLINE, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.splitlines()[-1]


def test_training_evaluating_and_predicting_open_no_connection(small_mnist: Path, tmp_path: Path) -> None:
    assert offline("whole", small_mnist, tmp_path / "model.safetensors") == "tried []"
    assert "socket.getaddrinfo" in offline("self-test")


@pytest.mark.slow
def test_torchvision_is_imported_only_for_its_data_sets() -> None:
    users = {str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if "torchvision import" in p.read_text()}
    code = "import sys, fastlenet, fastlenet.data, fastlenet.train; print('torchvision' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "data/torchvision.py" in users
    assert done.stdout.split() == ["False", "False"]
    assert [
        str(p.relative_to(PACKAGE))
        for p in PACKAGE.rglob("*.py")
        for n in ast.walk(ast.parse(p.read_text()))
        if isinstance(n, ast.ImportFrom) and (n.module or "").partition(".")[0] == "torchvision"
    ] == ["data/torchvision.py"]
