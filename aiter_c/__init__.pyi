from aiter_c._C import Array as Array
from aiter_c._C import DeviceError as DeviceError
from aiter_c._C import MlaPlan as MlaPlan
from aiter_c._C import UnsupportedError as UnsupportedError
from aiter_c._C import empty as empty
from aiter_c._C import from_host as from_host
from aiter_c._C import get_num_threads as get_num_threads
from aiter_c._C import mla_plan as mla_plan
from aiter_c._C import set_num_threads as set_num_threads
from aiter_c.metadata import get_meta_param as get_meta_param
from aiter_c.mla import mla_decode_fwd as mla_decode_fwd
from aiter_c.mla import mla_reduce_v1 as mla_reduce_v1

__version__: str
__all__: list[str]
