"""What a PyTorch pickle would build, read from its opcodes: nothing is unpickled, called, imported or allocated.

torch.load(weights_only=True) comes after this and only for what passed: it refuses foreign code as well, but it
trusts the sizes that a file states, and its errors do not tell a user what is wrong. In zip archives, objects of a
training framework beside the tensors are stepped over; `files` reads the tensors of those itself.
"""

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vs_iconvsr.weights.errors import WeightsError

LIMIT_BYTES = 8 * 2**20  # a full-size IconVSR's is 0.1 MB, with the state of its optimizer 0.3 MB
LIMIT_OPCODES = 100_000  # with the state of its optimizer such a file takes 50,000
MAX_DIMENSIONS = 8
MAX_ITEMS = 2**48

STORAGE_ITEM_BYTES = {
    "torch.DoubleStorage": 8,
    "torch.LongStorage": 8,
    "torch.FloatStorage": 4,
    "torch.IntStorage": 4,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
}
ORDERED_DICT = "collections.OrderedDict"
TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
PARAMETER = "torch._utils._rebuild_parameter"
# What checkpoints of training frameworks hold beside tensors (logs, settings). Nothing of it is built: see `Unread`.
STEPPED_OVER = re.compile(
    r"(mmengine|mmcv|mmagic|mmedit|omegaconf|pytorch_lightning|lightning)\..+"
    r"|numpy\.(ndarray|dtype|(_?core\.)?(multiarray|numeric)\.(_reconstruct|scalar|_frombuffer))"
    r"|numpy\._core\.(multiarray|numeric)\.(_reconstruct|scalar|_frombuffer)"
    r"|_codecs\.encode|argparse\.Namespace|pathlib\.\w*Path|pathlib\._local\.\w*Path|torch\.(device|b?float\d+|u?int\d+)"
    r"|collections\.(defaultdict|deque)|datetime\.\w+|(builtins|__builtin__)\.(dict|list|int|long|float|str|unicode|bool|object)"
)
HARMLESS = {ORDERED_DICT, *TENSORS, PARAMETER, "torch.Size", *STORAGE_ITEM_BYTES}


@dataclass(frozen=True)
class ImportedName:
    """Something that the pickle would import: module.name."""

    text: str


@dataclass(frozen=True)
class Unread:
    """Stands for an object that is no tensor and is not built; its arguments and attributes are dropped."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A block of numbers beside the pickle."""

    kind: str
    key: str
    num_items: int

    @property
    def size_bytes(self) -> int:
        return self.num_items * STORAGE_ITEM_BYTES[self.kind]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the pickle describes it, checked to lie within its storage."""

    storage: Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


class DamagedError(ValueError):
    """The opcodes make no sense; the caller knows the name of the file and the likely cause."""


def read(stream: io.BytesIO, *, step_over: bool = False) -> Any:
    """The object of the next pickle in the stream, which is left after its end.

    Plain values are themselves; a tensor is a StoredTensor. step_over: what STEPPED_OVER names is an Unread. Raises
    WeightsError if the pickle names anything else that is not part of a tensor, and DamagedError if it makes no
    sense.
    """
    machine = PickleMachine(step_over=step_over)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > LIMIT_OPCODES:
                raise DamagedError(f"more than {LIMIT_OPCODES} opcodes")
            machine.step(opcode.name, argument)
        return machine.result()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError) as error:
        raise DamagedError(str(error) or type(error).__name__) from error


class PickleMachine:
    """The pickle machine, with stand-ins for everything that is not a plain value."""

    def __init__(self, *, step_over: bool) -> None:
        self.step_over = step_over
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in PUSH_ARGUMENT:
            self.stack.append(argument)
        elif opcode in PUSH_FRESH:
            self.stack.append(PUSH_FRESH[opcode]())
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif opcode in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(opcode[-1])
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif opcode in ("GLOBAL", "INST"):
            self.stack.append(self.imported(argument))
        elif opcode == "STACK_GLOBAL":
            name, module = self.stack.pop(), self.stack.pop()
            self.stack.append(self.imported(f"{module} {name}"))
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            handler = getattr(self, "on_" + opcode.lower(), None)
            if handler is None:
                raise DamagedError(f"opcode {opcode}, which torch.save never writes")
            handler()

    def result(self) -> Any:
        [value] = self.stack
        return value

    def imported(self, argument: str) -> ImportedName | Unread:
        """genops gives 'module name'."""
        name = ".".join(argument.split(" ", 1))
        return Unread(name) if self.step_over and STEPPED_OVER.fullmatch(name) else imported_name(name)

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def on_mark(self) -> None:
        self.marks.append(len(self.stack))

    def on_tuple(self) -> None:
        self.stack.append(tuple(self.since_mark()))

    def on_append(self) -> None:
        value = self.stack.pop()
        if not isinstance(self.stack[-1], Unread):
            expect(self.stack[-1], list).append(value)

    def on_appends(self) -> None:
        values = self.since_mark()
        if not isinstance(self.stack[-1], Unread):
            expect(self.stack[-1], list).extend(values)

    def on_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def on_setitems(self) -> None:
        self.set_items(self.since_mark())

    def set_items(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], Unread):
            return
        target = expect(self.stack[-1], dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[expect(key, str, int)] = value

    def on_build(self) -> None:
        self.stack.pop()  # attributes of an OrderedDict, which are not needed: the versions of its modules
        expect(self.stack[-1], dict, Unread)

    def on_newobj(self) -> None:
        self.stack.pop()
        self.stack.append(expect(self.stack.pop(), Unread))

    def on_binpersid(self) -> None:
        parts = expect(self.stack.pop(), tuple)
        word, kind, key, _, num_items = parts[:5]
        if word != "storage" or expect(kind, ImportedName).text not in STORAGE_ITEM_BYTES:
            raise DamagedError("a reference to something other than a storage")
        if not 0 <= expect(num_items, int) < MAX_ITEMS or (len(parts) > 5 and parts[5] is not None):
            raise DamagedError("a storage of negative or astronomic size, or a view of one")
        self.stack.append(Storage(kind.text, expect(key, str), num_items))

    def on_reduce(self) -> None:
        arguments, imported = expect(self.stack.pop(), tuple), expect(self.stack.pop(), ImportedName, Unread)
        function = imported.text
        if isinstance(imported, Unread):
            self.stack.append(imported)
        elif function == ORDERED_DICT:
            [pairs] = arguments or ([],)
            self.stack.append({expect(key, str, int): value for key, value in pairs})
        elif function in TENSORS:
            self.stack.append(stored_tensor(*arguments[:4]))
        elif function == PARAMETER:
            self.stack.append(expect(arguments[0], StoredTensor))
        elif function == "torch.Size":
            self.stack.append(tuple(arguments[0]))
        else:
            raise DamagedError(f"a call of {function}")


PUSH_ARGUMENT = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINBYTES", "SHORT_BINBYTES"),
    *("BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINSTRING"),
}
PUSH_FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}


def imported_name(name: str) -> ImportedName:
    """Raises WeightsError for anything that is not part of a tensor."""
    if name not in HARMLESS:
        raise WeightsError(
            f"expected tensors only, got a pickle that runs {name!r} when it is loaded; nothing was run; if you "
            "trust its source, ask for a file with the tensors alone: torch.save({'state_dict': ...}, ...)"
        )
    return ImportedName(name)


def stored_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
    if not len(expect(shape, tuple)) == len(expect(strides, tuple)) <= MAX_DIMENSIONS:
        raise DamagedError(f"a tensor of {len(shape)} dimensions and {len(strides)} strides")
    if not all(0 <= expect(number, int) < MAX_ITEMS for number in (offset, *shape, *strides)):
        raise DamagedError("a tensor of negative or astronomic size")
    end = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) + 1
    if math.prod(shape) and end > expect(storage, Storage).num_items:
        raise DamagedError(f"a tensor of shape {shape} that reaches beyond its {storage.num_items} numbers")
    return StoredTensor(storage, shape, strides, offset)


def expect(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise DamagedError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, got {type(value).__name__}")
    return value
