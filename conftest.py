"""What holds for every test and doctest: one thread, a fixed seed, nothing left behind in Pyro."""

import sys
from importlib.util import find_spec

import pytest

collect_ignore = [] if find_spec("sklearn") else ["probgen/sklearn.py"]  # its doctest needs scikit-learn


@pytest.fixture(autouse=True)
def calm():
    """One thread and the same random numbers for each test, whatever ran before."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(0)  # for code of others that still draws from it


@pytest.fixture(autouse=True)
def empty_param_store():
    """Pyro's global store stays unused: a second model would share the first one's weights."""
    yield
    pyro = sys.modules.get("pyro")
    if pyro is not None:
        left = sorted(pyro.get_param_store().keys())
        pyro.clear_param_store()
        assert not left, f"left in Pyro's global ParamStore: {left}"


@pytest.fixture(autouse=True)
def default_dtype():
    """No test leaves another default dtype behind."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        found = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        assert found == torch.float32, f"left the default dtype at {found}"
