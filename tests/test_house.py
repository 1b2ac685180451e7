"""The structure of the package: layers, third-party packages, laziness, public names."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import o3magic.version

PACKAGE = Path(o3magic.version.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}

# From the top. A module imports from its own package and from lower layers only.
LAYERS = [
    {"__init__", "__main__"},
    {"notebook", "cluster"},
    {"cli", "rows"},
    {"session"},
    {"tools"},
    {"reports", "conversations", "prompts"},
    {"render", "cost", "client", "schemas", "local"},
    {"providers", "config", "cassettes", "wire", "answer_builder"},
    {"models"},
    {"settings", "events"},
    {"params", "interrupts"},
    {"errors", "messages", "money", "dataframes", "redaction", "citations", "version"},
    {"atomic_file"},
]
# The simulator stands alone: it shares no code with the client that is tested against it.
ALONE = "simulator"
SIMULATOR_IMPORTED_BY = {"session", "cli"}

# Which package of ours imports which third-party package.
THIRD_PARTY = {
    "httpx": {"client"},
    "httpcore": {"client"},
    "h11": {"client"},
    "sqlite3": {"cost"},
    "tiktoken": {"cost"},
    "IPython": {"notebook"},
    "ipywidgets": {"notebook"},
    "rich": {"render", "cli"},
    "platformdirs": {"config"},
    "jinja2": {"cli", "prompts"},
    "markdown_it": {"cli"},
    "filelock": {"atomic_file"},
    "jsonschema": {"schemas"},
    "referencing": {"schemas"},
    "nbformat": {"cli"},
    "nbclient": {"cli"},
    "jupyterlite_pyodide_kernel": {"cli"},
    "packaging": {"cli"},
    "jupyter_client": {"cli"},
    "pytest": {"cli"},
    "pandas": {"dataframes"},
    "PIL": {"prompts"},
    "xllamacpp": {"local"},
    "duckdb": {"tools"},
    "dask": {"cluster"},
    "distributed": {"cluster"},
    "genai_prices": {"cost"},
    "matplotlib": {"reports"},
    "azure": {"client"},
    "pydantic": {
        *("models", "providers", "settings", "client", "prompts", "schemas", "session", "tools"),
    },
    "pydantic_core": {"wire", "client", "schemas"},
}
# Those that a question in words needs neither at `import o3magic` nor at `%load_ext o3magic`.
SLOW = {"ipywidgets", "nbformat", "nbclient", "rich", "jinja2", "filelock", "jsonschema"}


def statements(node, *, lazily):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        if not lazily and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from statements(child, lazily=lazily)


def imports(name, *, lazily=True):
    """(module, name or None) of every import that can run; those for type checkers cannot."""
    for node in statements(TREES[name], lazily=lazily):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            yield from ((arg.value, None) for arg in node.args if isinstance(arg, ast.Constant))


def own_imports(name, *, lazily=True):
    """The modules of o3magic that a module imports."""
    for module, part in imports(name, lazily=lazily):
        if module.partition(".")[0] == "o3magic":
            full = f"{module}.{part}"
            yield full if full in MODULES else module


def packages(name):
    return {module.partition(".")[0] for module, _ in imports(name)} - {"o3magic"}


def unit(name):
    """The package or single module directly under o3magic that a module belongs to."""
    return f"{name}.__init__".split(".")[1]


def depth(name):
    [found] = [n for n, layer in enumerate(LAYERS) if unit(name) in layer]
    return found


def test_every_module_has_its_layer():
    assert {unit(name) for name in MODULES} == set().union({ALONE}, *LAYERS)


@pytest.mark.parametrize("name", [name for name in MODULES if unit(name) != ALONE])
def test_imports_go_down(name):
    for imported in own_imports(name):
        if unit(imported) == ALONE:
            assert unit(name) in SIMULATOR_IMPORTED_BY, f"{name} -> {imported}"
            assert imported not in own_imports(name, lazily=False), f"{name} -> {imported}"
        elif unit(imported) != unit(name):
            assert depth(imported) > depth(name), f"{name} -> {imported}"


def test_no_module_imports_itself_by_way_of_others():
    below = {name: set(own_imports(name)) & set(MODULES) for name in MODULES}
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for imported in sorted(below[name]):
            visit(imported)
        path.pop()
        done.add(name)

    for name in MODULES:
        visit(name)


@pytest.mark.parametrize("name", MODULES)
def test_a_third_party_package_is_imported_where_it_belongs(name):
    for package in packages(name):
        if package not in sys.stdlib_module_names or package in THIRD_PARTY:
            assert unit(name) in THIRD_PARTY.get(package, ()), f"{name} imports {package}"


def test_every_third_party_package_that_is_listed_is_imported():
    users = {
        package: {unit(n) for n in MODULES if package in packages(n)} for package in THIRD_PARTY
    }
    assert users == THIRD_PARTY


def test_a_class_name_is_used_once():
    names = Counter(
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_the_simulator_shares_no_code_with_the_client():
    for name in MODULES:
        if unit(name) == ALONE:
            assert {unit(imported) for imported in own_imports(name)} <= {ALONE}, name
            assert packages(name) <= sys.stdlib_module_names, name


def test_packages_import_nothing_in_their_init():
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name not in ("o3magic", "o3magic.simulator"):
            assert [node for node in TREES[name].body if not is_docstring(node)] == [], name


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_changed_for_the_whole_process(name):
    lines = [node.lineno for node in ast.walk(TREES[name]) if isinstance(node, ast.Global)]
    assert lines == [], f"{name}: global in line {lines}"


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
    assert not loaded & (SLOW | set(THIRD_PARTY) - {"sqlite3"})


def test_loading_the_extension_loads_nothing_that_is_not_used_yet():
    loaded = loaded_by("import o3magic.notebook.extension")
    assert "IPython" in loaded
    assert not loaded & SLOW


def test_the_public_names_are_listed_in_order_and_all_there():
    import o3magic

    assert o3magic.__all__ == sorted(o3magic.__all__)
    for name in o3magic.__all__:
        assert getattr(o3magic, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = o3magic.nothing
