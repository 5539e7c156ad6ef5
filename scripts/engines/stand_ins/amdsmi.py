"""A machine with one AMD GPU, of GPU_ARCHS: vLLM takes the ROCm platform for the current one where this says so."""

import os


class AmdSmiException(Exception): ...


class AmdSmiMemoryType:
    VRAM = 0


def amdsmi_init(*flags: object) -> None: ...


def amdsmi_shut_down() -> None: ...


def amdsmi_get_processor_handles() -> list[int]:
    return [0]


def amdsmi_get_gpu_asic_info(handle: int) -> dict[str, str]:
    return {"target_graphics_version": os.environ["GPU_ARCHS"], "market_name": "stand-in", "device_id": "0x0"}


def amdsmi_get_gpu_device_uuid(handle: int) -> str:
    return "0"


def amdsmi_get_gpu_memory_total(handle: int, kind: int) -> int:
    return 192 << 30


def amdsmi_topo_get_link_type(handle: int, other: int) -> dict[str, int]:
    return {"hops": 1, "type": 2}


def amdsmi_topo_get_numa_node_number(handle: int) -> int:
    return 0
