"""Which backends this installation has, and why it lacks the others."""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import import_module

from primep2p.kernels.backends.compiled import Unusable, load
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Backend

__all__ = ["backends", "present"]


@lru_cache(maxsize=1)
def backends() -> dict[str, Backend | str]:
    """By name, the one that every machine has first; or the reason why there is none of that name."""
    return {"numpy": Plain(), "compiled": _compiled(), "mlx": _mlx()}


def present() -> dict[str, Backend]:
    """Those that are here."""
    return {name: backend for name, backend in backends().items() if not isinstance(backend, str)}


def _compiled() -> Backend | str:
    found = load()
    return found.reason if isinstance(found, Unusable) else found


def _mlx() -> Backend | str:
    # MLX belongs to the first thread that imports it, for as long as the process lives.
    thread = ThreadPoolExecutor(1, thread_name_prefix="mlx")
    try:
        module = thread.submit(import_module, "primep2p.kernels.backends.mlx").result()
    except ImportError as error:
        thread.shutdown()
        return f"MLX cannot be imported ({error}): install primep2p[mlx]"
    device = thread.submit(lambda: module.devices()[0]).result()
    backend: Backend = module.Mlx(lambda function: thread.submit(function).result(), device)
    return backend
