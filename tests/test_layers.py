"""The machine that enforces the direction of imports knows every module that there is."""

import pkgutil
import tomllib

import bundler
from readme import PROJECT


def test_every_module_of_the_connected_side_is_in_its_contract() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each["name"].startswith("The connected side")]
    modules = {f"bundler.{module.name}" for module in pkgutil.iter_modules(bundler.__path__)}
    assert set(contract["source_modules"]) == modules - {"bundler.commands", "bundler.__main__"}
