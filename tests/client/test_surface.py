"""The public surface: what it is, that it is light, and that it holds what the documentation promises."""

import inspect
import subprocess
import sys

import pytest

import hookbrook

#: Everything that a user may import from `hookbrook`. What is taken away here breaks somebody's program.
SURFACE = [
    "ApiError",
    "AsyncEvents",
    "AsyncHookbrook",
    "AsyncStream",
    "ConnectionFailed",
    "CursorFile",
    "Event",
    "Events",
    "Hookbrook",
    "HookbrookError",
    "NewEvent",
    "Place",
    "Published",
    "Reset",
    "SignatureError",
    "Stream",
    "StreamReceipt",
    "Verified",
    "Webhook",
    "__version__",
    "verify",
]


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_public_surface_is_exactly_this() -> None:
    assert sorted(hookbrook.__all__) == SURFACE
    assert dir(hookbrook) == SURFACE
    assert all(getattr(hookbrook, name) is not None for name in SURFACE)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        _ = hookbrook.Server


def test_every_public_name_is_documented() -> None:
    names = set(SURFACE) - {"__version__"}
    assert [name for name in names if not inspect.getdoc(getattr(hookbrook, name))] == []


def test_every_error_of_the_sdk_is_a_hookbrook_error() -> None:
    errors = (hookbrook.ApiError, hookbrook.ConnectionFailed, hookbrook.Reset, hookbrook.SignatureError)
    assert all(issubclass(error, hookbrook.HookbrookError) for error in errors)


def test_importing_hookbrook_loads_nothing_heavy() -> None:
    heavy = {"fastapi", "uvicorn", "pydantic", "aiohttp", "urllib3", "cryptography", "asyncio", "typer"}
    assert modules_after("import hookbrook") & heavy == set()


def test_the_blocking_client_does_not_load_the_asynchronous_one() -> None:
    loaded = modules_after("from hookbrook import Hookbrook")
    assert "urllib3" in loaded
    assert loaded & {"aiohttp", "fastapi", "uvicorn", "pydantic"} == set()


def test_verifying_loads_no_http_client() -> None:
    assert modules_after("from hookbrook import verify") & {"aiohttp", "urllib3", "fastapi"} == set()


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(hookbrook.Hookbrook) == methods(hookbrook.AsyncHookbrook)
    assert list(inspect.signature(hookbrook.Hookbrook).parameters.values()) == list(
        inspect.signature(hookbrook.AsyncHookbrook).parameters.values()
    )


def test_a_client_does_not_show_its_key() -> None:
    with hookbrook.Hookbrook("http://127.0.0.1:1", "hbk_secret") as client:
        assert "hbk_secret" not in repr(client)
        assert "hbk_secret" not in repr(vars(client))
