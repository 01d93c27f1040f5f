"""The documentation is current: the table of config keys, links, the table of commands, the length of the README."""

import ast
import dataclasses
import importlib.util
import pkgutil
import re
from functools import reduce
from pathlib import Path

import pytest

from mixer_jax import commands
from mixer_jax.config import base, recipes
from mixer_jax.config.compare import flatten
from mixer_jax.suites import defaults

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CONFIG = ROOT / "docs" / "config.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OPEN_KEYS = ("eval.splits",)  # dictionaries whose names a recipe chooses


def reference():
    """The generator of docs/config.md, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("config_reference", ROOT / "docs" / "config_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(page):
    """The text of a page without its code blocks, in which brackets and # mean other things."""
    return re.sub(
        r"^( *)(`{3,})[^\n]*\n.*?^\1\2 *$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    return {f"{slug}-{slugs[:i].count(slug)}" if slug in slugs[:i] else slug for i, slug in enumerate(slugs)}


def links(page):
    """The targets of all links and pictures of a page that stay in the project."""
    targets = re.findall(r"\]\(([^()\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"https?://|mailto:", target)]


def own_text(page):
    """The text of a page with its code, but without links' targets and what it says of other projects."""
    text = re.sub(r"\]\([^()\s]+\)", "]", page.read_text(encoding="utf-8"))
    if page.name != "coming_from.md":
        return text
    return "\n".join(line.split("|", 2)[2] for line in text.splitlines() if line.startswith("|"))


def with_sections(config):
    """The dotted names of all keys and sections of a config."""
    leaves = [key.split(".") for key in flatten(config)]
    return {".".join(names[:depth]) for names in leaves for depth in range(1, len(names) + 1)}


def test_the_table_of_config_keys_is_current():
    module = reference()
    assert module.TARGET.read_text(encoding="utf-8") == module.render(), "run python docs/config_reference.py"


def test_every_config_key_is_in_the_table_with_its_default():
    keys = {name: value for name, value in flatten(base.get_config()).items() if not name.startswith(OPEN_KEYS)}
    rows = re.findall(r"^\| `([\w.]+)` \| `(.+?)`(?: \(\w+\))? \| .*\|$", prose(CONFIG), flags=re.MULTILINE)
    assert len(rows) == len(dict(rows))
    found = {name: default.replace(r"\|", "|") for name, default in rows}
    assert found.keys() - set(OPEN_KEYS) == keys.keys()
    assert {name: found[name] for name in keys} == {name: repr(value) for name, value in keys.items()}


def test_the_table_names_the_type_of_a_key_that_may_be_none():
    listed, _ = reference().read_keys(reference().SOURCE.read_text(encoding="utf-8"))
    config = base.get_config()
    for key in listed:
        section, _, leaf = key.name.rpartition(".")
        kind = config.get_type(leaf) if not section else reduce(getattr, section.split("."), config).get_type(leaf)
        assert key.kind == (kind.__name__ if key.default == "None" else ""), key.name


def test_comments_find_their_keys():
    lines = [
        "def get_config():",
        '    """Returns it."""',
        "    config = ConfigDict()",
        "    # above,",
        "    # of two",
        "    config.a = 1",
        "    config.b = placeholder(int)",
        "    config.c = 'x|#y'  # own",
        "    config.d = 2",
        "    # of a group",
        "    config.e = 1_0",
        "",
        "    config.f = 2.0**3",
        "    # of the section",
        "    config.g = ConfigDict()",
        "    config.g.h = ()  # these two",
        "    config.g.i = ()",
        "    return config.lock()",
    ]
    keys, sections = reference().read_keys("\n".join(lines))
    assert [dataclasses.astuple(key) for key in keys] == [
        ("a", "1", "", "above, of two"),
        ("b", "None", "int", "as `a`"),
        ("c", "'x\\|#y'", "", "own"),
        ("d", "2", "", ""),
        ("e", "10", "", "of a group"),
        ("f", "8.0", "", ""),
        ("g.h", "()", "", "these two"),
        ("g.i", "()", "", "as `g.h`"),
    ]
    assert sections == {"g": "of the section"}
    with pytest.raises(ValueError, match="expected config.<key>"):
        reference().read_keys("\n".join([*lines[:3], "    other = 1", lines[-1]]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    text = own_text(page)
    keys = with_sections(base.get_config()) | with_sections(defaults.get_config())
    named = re.findall(r"(?<![\w./])(?:--)?config\.(\w+(?:\.\w+)*)", text)
    assert [key for key in named if key not in keys | {"json", "md"}] == []

    configs = re.findall(r"--config=([\w./]+)", text)
    own = {"...", "my_recipe.py"}  # stand for files of the reader's
    assert [name for name in configs if name not in {*recipes.names(), *own} and not (ROOT / name).exists()] == []

    paths = re.findall(r"(?<![\w./])(?:mixer_jax|configs|launch|docs|tests)/[\w./]*\w", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []

    names = {module.name.partition("_")[0] for module in pkgutil.iter_modules(commands.__path__)}
    used = re.findall(r"(?:^|`|\$ )(?:python -m )?mixer_jax (\w+)", text, flags=re.MULTILINE)
    assert [name for name in used if name not in names] == []


def test_every_page_is_reached_from_the_readme():
    reached = {(README.parent / link.partition("#")[0]).resolve() for link in links(README)}
    assert [page.name for page in PAGES if page != README and page not in reached] == []


def test_the_readme_lists_all_commands():
    table = prose(README).partition("## Commands")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([\w ]+)` \|", table, flags=re.MULTILINE)
    names = [module.name.replace("_", " ") for module in pkgutil.iter_modules(commands.__path__)]
    assert sorted(listed) == sorted(names)


def test_every_command_says_what_it_does():
    for module in pkgutil.iter_modules(commands.__path__):
        path = Path(commands.__path__[0], f"{module.name}.py")
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""
        assert docstring.partition("\n")[0].strip(), path


def test_the_readme_lists_recipes_that_exist():
    table = prose(README).partition("## Recipes")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    assert len(listed) == 11
    assert [name for name in listed if not (ROOT / "configs" / f"{name}.py").exists()] == []


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= 1400
