"""What is public is there, and what only runs files never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy import pipeline

packages = pytest.mark.parametrize("package", [nd, pipeline])


def run_alone(program: str) -> None:
    """Run a program in a process of its own, which must end well."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@packages
def test_every_public_name_can_be_had(package: ModuleType) -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None


@packages
def test_type_checkers_see_the_same_names(package: ModuleType) -> None:
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = (statement for statement in tree.body if isinstance(statement, ast.If))
    names = [
        name.asname
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    ]
    version = ["__version__"] if package is nd else []
    assert sorted([*names, *version], key=str) == sorted(package.__all__)


@packages
def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute 'simulat'"):
        _ = package.simulat


def test_commands_without_training_never_load_torch() -> None:
    """Each in its turn, in one process: it is one start instead of six."""
    commands = [
        ["simulate", "--help"],
        ["verify", "--help"],
        ["report", "--help"],
        ["inspect", "--help"],
        ["lava", "doctor", "--help"],
        ["recipes"],
    ]
    program = (
        "import sys\n"
        "from neurodeploy.cli import main\n"
        f"for command in {commands!r}:\n"
        "    sys.argv = ['neurodeploy', *command]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, (command, end.code)\n"
        "    loaded = {'torch', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "    assert not loaded, (command, loaded)\n"
    )
    run_alone(program)


def test_advice_and_conversion_of_onnx_files_never_load_torch() -> None:
    program = (
        "import sys\n"
        "from neurodeploy.pipeline import advising, converted\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    run_alone(program)


def test_a_command_loads_no_other_command() -> None:
    program = (
        "import sys\n"
        "from neurodeploy.cli import main\n"
        "sys.argv = ['neurodeploy', 'inspect', '--help']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    prefix = 'neurodeploy.cli.commands.'\n"
        "    loaded = {name for name in sys.modules if name.startswith(prefix)}\n"
        "    assert loaded == {prefix + 'inspect'}, loaded\n"
    )
    run_alone(program)


def test_a_simulation_loads_no_compiler(tmp_path: Path) -> None:
    """Neither from the command line nor in Python; it takes longer than most small runs."""
    golden = Path(__file__).parents[1] / "golden" / "01_dense_basic.net"
    np.savez(tmp_path / "in.npz", input=np.ones((1, 2, 24), np.int32))
    command = ["simulate", golden, "-i", tmp_path / "in.npz", "-o", tmp_path / "out.npz"]
    graph = nd.netx.read(golden)
    nd.EventSimulator(graph).run(np.ones((1, 2, 24), np.int32))  # compiles what is not kept
    program = (
        "import sys\n"
        "import numpy as np\n"
        "import neurodeploy as nd\n"
        "from neurodeploy.cli import main\n"
        f"graph = nd.netx.read({str(golden)!r})\n"
        "nd.EventSimulator(graph).run(np.ones((1, 2, 24), np.int32))\n"
        f"sys.argv = ['neurodeploy', *{list(map(str, command))!r}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    loaded = {'numba', 'scipy', 'torch', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "    assert not loaded, loaded\n"
    )
    run_alone(program)


def test_only_the_imports_of_a_command_go_without_garbage_collection() -> None:
    program = (
        "import gc, sys\n"
        "from neurodeploy.cli import main\n"
        "from neurodeploy.recipes import recipe\n"
        "states, sources = [], recipe.recipe_sources\n"
        "def watched(*arguments):\n"
        "    states.append(gc.isenabled())\n"
        "    return sources(*arguments)\n"
        "recipe.recipe_sources = watched\n"
        "for words in (['recipes'], ['recipes', '--wrong']):\n"
        "    sys.argv = ['neurodeploy', *words]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit:\n"
        "        states.append(gc.isenabled())\n"
        "assert len(states) > 2 and all(states), states\n"
    )
    run_alone(program)
