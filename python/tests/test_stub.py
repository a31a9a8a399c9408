"""`_core.pyi` says what the built module has, and nothing else: names, kinds, parameters."""

import ast
import inspect
from pathlib import Path

import pytest

import turboapi._core as core
from turboapi import _core

pytestmark = pytest.mark.above_platform

STUB = ast.parse((Path(_core.__file__).parent / "_core.pyi").read_text())
#: What every module or class has.
COMMON = {"__all__", "__doc__", "__file__", "__loader__", "__module__", "__name__", "__package__", "__spec__"} | set(dir(object))


def declared(body):
    """The names that a stub's body declares, each with its node."""
    names = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.AnnAssign):
            names[node.target.id] = node
    return names


def is_property(node):
    return any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in node.decorator_list)


def stub_parameters(node):
    arguments = node.args
    assert not arguments.posonlyargs
    names = [(argument.arg, "positional") for argument in arguments.args] + [(argument.arg, "keyword") for argument in arguments.kwonlyargs]
    return [name for name in names if name[0] != "self"]


def built_parameters(function):
    kinds = {inspect.Parameter.KEYWORD_ONLY: "keyword"}
    parameters = inspect.signature(function).parameters.values()
    return [(parameter.name, kinds.get(parameter.kind, "positional")) for parameter in parameters if parameter.name != "self"]


def test_names():
    assert set(declared(STUB.body)) == {name for name in dir(core) if name not in COMMON}


CLASSES = [node.name for node in STUB.body if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("name", CLASSES)
def test_members(name):
    built, node = getattr(core, name), declared(STUB.body)[name]
    members = declared(node.body)
    built_members = {member for member in vars(built) if member not in COMMON}
    assert set(members) - {"__init__"} == built_members
    for member, declaration in members.items():
        if member == "__init__":
            assert stub_parameters(declaration) == built_parameters(built)
        elif is_property(declaration):
            assert inspect.isgetsetdescriptor(vars(built)[member]), member
        elif member == "__call__":
            assert stub_parameters(declaration) == built_parameters(vars(built)[member]) or inspect.ismethoddescriptor(vars(built)[member])
        else:
            assert inspect.ismethoddescriptor(vars(built)[member]), member
            assert stub_parameters(declaration) == built_parameters(vars(built)[member]), member


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_final_cannot_be_subclassed(name):
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Sub", (getattr(core, name),), {})


@pytest.mark.parametrize("name", [name for name in CLASSES if "__init__" not in declared(declared(STUB.body)[name].body)])
def test_what_has_no_init_cannot_be_made(name):
    with pytest.raises(TypeError, match="cannot create"):
        getattr(core, name)()


def test_functions():
    for name, node in declared(STUB.body).items():
        if isinstance(node, ast.FunctionDef):
            assert stub_parameters(node) == built_parameters(getattr(core, name))


def test_version_is_text():
    assert isinstance(core.__version__, str)
