"""The house: imports go down, and a third-party package has its doors."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import o3magic.version

PACKAGE = Path(o3magic.version.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}

GROUND = {
    "errors",
    "messages",
    "events",
    "draft",
    "catalog",
    "profile",
    "settings",
    "providers",
    "citations",
    "money",
    "redaction",
    "frames",
    "params",
}
GROUND |= {"version"}
# What each room may import, besides itself. The face and __main__ stand above all of them.
FLOORS = {
    "ground": set(),
    "wire": {"ground"},
    "client": {"wire", "ground"},
    "cost": {"ground"},
    "tapes": {"ground"},
    "local": {"ground"},
    "render": {"ground"},
    "schemas": {"wire", "ground"},
    "prompts": {"schemas", "ground"},
    "tools": {"prompts", "schemas", "wire", "ground"},
    "talk": {"tools", "prompts", "schemas", "client", "cost", "tapes", "local", "wire", "ground"},
    "jobs": {"talk", "prompts", "schemas", "client", "cost", "tapes", "wire", "ground"},
    "cluster": {"jobs", "talk", "schemas", "client", "cost", "wire", "ground"},
    "notebook": {"jobs", "talk", "tools", "schemas", "render", "cost", "ground"},
    "simulator": set(),
    "cli": {"simulator", "talk", "render", "client", "cost", "tapes", "local", "wire", "ground"},
    "face": {"notebook", "cluster", "jobs", "talk", "tools", "ground"},
    "__main__": {"cli"},
}
# A room's one way past its floor, loaded only when it is used.
LAZY = {("o3magic.talk.reach", "simulator")}

# Where each third-party package enters.
DOORS = {
    "httpx": {"o3magic.client.http", "o3magic.client.line", "o3magic.client.wide"},
    "h11": {"o3magic.client.line"},
    "sqlite3": {"o3magic.cost.store"},
    "tiktoken": {"o3magic.cost.tokenizer"},
    "IPython": {"o3magic.notebook"},
    "ipywidgets": {"o3magic.notebook"},
    "rich": {"o3magic.render.terminal", "o3magic.cli"},
    "platformdirs": {"o3magic.settings"},
    "jinja2": {"o3magic.cli", "o3magic.prompts.sandbox"},
    "markdown_it": {"o3magic.cli"},
    "nbformat": {"o3magic.cli"},
    "nbclient": {"o3magic.cli"},
    "jupyterlite_pyodide_kernel": {"o3magic.cli.lite"},
    "packaging": {"o3magic.cli.lite_wheels"},
    "jupyter_client": {"o3magic.cli.execution"},
    "pytest": {"o3magic.cli.pytest_plugin"},
    "pandas": {"o3magic.frames"},
    "PIL": {"o3magic.prompts.images"},
    "xllamacpp": {"o3magic.local.server_process"},
    "duckdb": {"o3magic.tools.builtin_tools"},
    "dask": {"o3magic.cluster.collections"},
    "distributed": {"o3magic.cluster.door"},
    "genai_prices": {"o3magic.cost.price_check"},
    "matplotlib": {"o3magic.cost.figure"},
    "azure": {"o3magic.client.entra"},
    "pydantic": {
        "o3magic.catalog",
        "o3magic.client",
        "o3magic.providers",
        "o3magic.profile",
        "o3magic.prompts",
        "o3magic.schemas",
        "o3magic.talk",
        "o3magic.tools",
    },
    "pydantic_core": {"o3magic.wire", "o3magic.client.call"},
}


def imports(tree, *, lazily=True):
    """(module, name or None) of every import that can run; those for type checkers cannot."""
    for node in statements(tree, lazily=lazily):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that the floor can be read off them"
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            yield from ((each.value, None) for each in node.args if isinstance(each, ast.Constant))


def statements(node, *, lazily):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        if not lazily and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from statements(child, lazily=lazily)


def inside(name, *, lazily=True):
    """The modules of the house that a module imports."""
    for module, part in imports(TREES[name], lazily=lazily):
        if module.partition(".")[0] == "o3magic":
            both = f"{module}.{part}"
            yield both if both in MODULES else module


def room(name):
    parts = name.split(".")
    if len(parts) == 1:
        return "face"
    return "ground" if parts[1] in GROUND else parts[1]


def within(name, places):
    return any(name == p or (p != "o3magic" and name.startswith(f"{p}.")) for p in places)


def test_every_module_is_in_a_room_of_the_plan():
    assert {room(name) for name in MODULES} == set(FLOORS)
    assert {name.split(".")[1] for name in MODULES if room(name) == "ground"} == GROUND


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_or_stay(name):
    own = room(name)
    for imported in inside(name):
        below = room(imported)
        assert below in FLOORS[own] | {own} or (name, below) in LAZY, f"{name} -> {imported}"


def test_the_ways_past_a_floor_are_used_only_inside_functions():
    for name, beyond in LAZY:
        assert beyond not in {room(imported) for imported in inside(name, lazily=False)}
        assert beyond in {room(imported) for imported in inside(name)}


@pytest.mark.parametrize("name", MODULES)
def test_nobody_inside_imports_the_face(name):
    assert "o3magic" not in set(inside(name))


def test_no_module_imports_itself_on_any_way():
    below = {name: set(inside(name)) & set(MODULES) for name in MODULES}
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for each in sorted(below[name]):
            visit(each)
        path.pop()
        done.add(name)

    for name in MODULES:
        visit(name)


@pytest.mark.parametrize("name", MODULES)
def test_a_third_party_package_enters_by_its_door(name):
    for module, _ in imports(TREES[name]):
        package = module.partition(".")[0]
        if package == "o3magic" or (package in sys.stdlib_module_names and package not in DOORS):
            continue
        assert package in DOORS, f"{name} imports {package}, which has no door"
        assert within(name, DOORS[package]), f"{name} imports {package} beside its door"


def test_every_door_is_used():
    for package, places in DOORS.items():
        for place in places:
            users = [
                name
                for name, tree in TREES.items()
                if within(name, {place})
                and package in {module.partition(".")[0] for module, _ in imports(tree)}
            ]
            assert users, f"{package} does not enter by {place}"


def test_the_simulator_shares_no_code_with_the_client():
    for name in MODULES:
        if room(name) == "simulator":
            assert {room(each) for each in inside(name)} <= {"simulator"}, name
            packages = {module.partition(".")[0] for module, _ in imports(TREES[name])}
            assert packages - {"o3magic"} <= sys.stdlib_module_names, name


def test_the_face_of_a_room_is_empty():
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name != "o3magic":
            rest = [node for node in TREES[name].body if not is_docstring(node)]
            if name == "o3magic.simulator":
                rest = [n for n in rest if not isinstance(n, ast.ImportFrom | ast.Assign)]
            assert rest == [], name


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_its_job(name):
    assert ast.get_docstring(TREES[name]) or not TREES[name].body


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_changed_for_the_whole_process(name):
    found = [node.lineno for node in ast.walk(TREES[name]) if isinstance(node, ast.Global)]
    assert found == [], f"{name}: global in line {found}"


SLOW = {"ipywidgets", "nbformat", "nbclient", "rich", "jinja2"}


def loaded_by(statement):
    """The packages that a statement loads in a process of its own."""
    code = f"import sys\n{statement}\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_next_to_nothing():
    loaded = loaded_by("import o3magic")
    assert not loaded & (SLOW | set(DOORS) - {"sqlite3"})


def test_loading_the_extension_loads_nothing_that_is_not_used_yet():
    loaded = loaded_by("import o3magic.notebook.load")
    assert "IPython" in loaded
    assert not loaded & SLOW


def test_the_public_names_are_listed_in_order_and_all_there():
    import o3magic

    assert o3magic.__all__ == sorted(o3magic.__all__)
    for name in o3magic.__all__:
        assert getattr(o3magic, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = o3magic.nothing
