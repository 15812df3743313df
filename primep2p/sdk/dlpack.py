"""A DLPack capsule of bf16. numpy can make none, so this takes one of 16-bit integers and names the type anew.

The layout is that of dlpack.h, of which only what comes before the type is declared here. In a capsule of version 1 a
head stands before the tensor.
"""

import ctypes
from typing import Any

__all__ = ["as_bf16"]

_UNSIGNED, _BFLOAT = 1, 4
"""kDLUInt, kDLBfloat."""


class _Tensor(ctypes.Structure):
    """The beginning of a DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    )


class _Versioned(ctypes.Structure):
    """The beginning of a DLManagedTensorVersioned."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_LAYOUTS: dict[bytes, Any] = {b"dltensor": _Tensor, b"dltensor_versioned": _Versioned}

_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_pointer_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def as_bf16(capsule: object) -> object:
    """The same capsule, of which nobody has taken the tensor yet: its elements, of uint16, are called bf16 now."""
    name = _name_of(capsule)
    found = _LAYOUTS[name].from_address(_pointer_in(capsule, name))
    tensor = found if isinstance(found, _Tensor) else found.tensor
    if (tensor.code, tensor.bits, tensor.lanes) != (_UNSIGNED, 16, 1):
        raise ValueError(f"DLPack type {tensor.code}, {tensor.bits}, {tensor.lanes} where uint16 is meant")
    tensor.code = _BFLOAT
    return capsule
