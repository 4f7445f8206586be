"""What all tests share."""

import os
import signal

import pytest

# Beside each other, tests must not use all cores each: idle threads of torch and of a BLAS wait by spinning. Both read
# this when they are imported, and processes that tests start inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """What is kept between runs, layers and history, stays among the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """Processes that tests start heed Ctrl-C, even where a shell in the background made this one ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
