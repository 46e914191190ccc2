"""Relocatable ELF objects of kernels: sections put one after another, addresses filled in.

What LLVM emits for position-independent code in the small code model refers to itself by
distances, so an object is linked once, at address 0, and then runs at any page boundary; only the
few words of an image that hold addresses have its place added.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

LARGEST_IMAGE = 64 << 20
PAGE = 4096  # what ADRP counts in; images are placed at multiples of it

X86_64 = 62
AARCH64 = 183
MACHINES = {X86_64: "x86-64", AARCH64: "AArch64"}

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

_RELOCATABLE = 1
# Types of sections.
_PROGBITS, _SYMTAB, _RELA, _NOTE, _NOBITS, _REL = 1, 2, 4, 7, 8, 9
# Flags of sections.
_WRITE, _ALLOC, _THREAD_LOCAL, _COMPRESSED = 0x1, 0x2, 0x400, 0x800
# Sections a symbol may be said to lie in.
_UNDEFINED, _RESERVED, _ABSOLUTE = 0, 0xFF00, 0xFFF1
_INDIRECT_FUNCTION = 10


class LoadError(RuntimeError):
    """An object that cannot be loaded: malformed, foreign, or not self-contained."""

    def __init__(self, message: str) -> None:
        super().__init__(f"[load] {message}")


class Image(NamedTuple):
    """A linked object, for address 0."""

    content: bytearray
    symbols: dict[str, int]  # global names defined in it, and their offsets
    absolute: list[int]  # offsets of the 8-byte words to which the image's address is added

    def placed(self, address: int) -> bytearray:
        """The bytes to put at ``address``, a multiple of 4096. Changes the image."""
        for offset in self.absolute:
            (word,) = _U64.unpack_from(self.content, offset)
            _U64.pack_into(self.content, offset, (word + address) & (2**64 - 1))
        return self.content


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


def link(data: bytes, machine: int | None = None) -> Image:
    """Links an object.

    Args:
        data: the object file.
        machine: the machine it must be for (``X86_64``, ``AARCH64``); None takes either.

    Raises:
        LoadError: the object is malformed, for another machine, or needs what is not in it.
    """
    try:
        return _Linker(data, machine).image()
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise LoadError(f"malformed object: {error}") from error


class _Linker:
    def __init__(self, data: bytes, machine: int | None) -> None:
        self.data = data
        self.machine, self.sections, names = self._headers(machine)
        self.section_names = names
        self.content = bytearray()
        self.placed: dict[int, int] = {}  # section -> its offset in the image
        self.symbols: list[_Symbol] = []
        self.symbol_names = b""
        self.absolute: list[int] = []
        self.slots: dict[int, int] = {}  # symbol -> offset of the word that holds its address

    def image(self) -> Image:
        self._place_sections()
        self._read_symbols()
        apply = _X86_64 if self.machine == X86_64 else _AARCH64
        for section in self.sections:
            if section.info not in self.placed:
                continue
            if section.type == _REL:
                raise LoadError("malformed object: relocations without addends")
            if section.type == _RELA:
                self._relocate(section, apply)
        return Image(self.content, self._exported(), self.absolute)

    def _headers(self, machine: int | None) -> tuple[int, list[_Section], bytes]:
        data = self.data
        if data[:4] != b"\x7fELF":
            raise LoadError(f"expected an ELF object; got {_kind_of(data)}")
        if data[4:6] != b"\x02\x01":
            raise LoadError("expected a 64-bit little-endian ELF object")
        header = _HEADER.unpack_from(data)
        kind, found, offset = header[1], header[2], header[6]
        entry_size, count, names_index = header[11:]
        if kind != _RELOCATABLE:
            raise LoadError(f"expected a relocatable object; got an ELF file of type {kind}")
        if found not in MACHINES or machine not in (None, found):
            expected = " or ".join(MACHINES.values()) if machine is None else MACHINES[machine]
            raise LoadError(
                f"expected an object for {expected}; got {MACHINES.get(found, f'machine {found}')}"
            )
        if entry_size != _SECTION.size:
            raise LoadError("malformed object: section headers of another size")
        table = self._slice(offset, count * _SECTION.size)
        sections = [_Section._make(fields) for fields in _SECTION.iter_unpack(table)]
        return found, sections, self._content(sections[names_index])

    def _slice(self, offset: int, size: int) -> bytes:
        if offset + size > len(self.data):
            raise LoadError("malformed object: it ends early")
        return self.data[offset : offset + size]

    def _content(self, section: _Section) -> bytes:
        return self._slice(section.offset, section.size)

    def _place_sections(self) -> None:
        for index, section in enumerate(self.sections):
            if not section.flags & _ALLOC or not section.size or section.type == _NOTE:
                continue
            name = _text(self.section_names, section.name)
            if name.startswith(".eh_frame"):
                continue  # kernels do not unwind
            _check_section(name, section)
            begin = -(-len(self.content) // section.alignment) * section.alignment
            if begin + section.size > LARGEST_IMAGE:
                raise LoadError(
                    f"section {name} makes the object larger than {LARGEST_IMAGE} bytes"
                )
            self.content.extend(bytes(begin - len(self.content)))
            if section.type == _NOBITS:
                self.content.extend(bytes(section.size))
            else:
                self.content += self._content(section)
            self.placed[index] = begin

    def _read_symbols(self) -> None:
        tables = [section for section in self.sections if section.type == _SYMTAB]
        if len(tables) != 1:
            raise LoadError(f"malformed object: {len(tables)} symbol tables")
        self.symbols = [
            _Symbol._make(fields) for fields in _SYMBOL.iter_unpack(self._content(tables[0]))
        ]
        self.symbol_names = self._content(self.sections[tables[0].link])

    def _exported(self) -> dict[str, int]:
        return {
            _text(self.symbol_names, symbol.name): self.placed[symbol.section] + symbol.value
            for symbol in self.symbols
            if symbol.info >> 4 and symbol.section in self.placed and self._inside(symbol)
        }

    def _inside(self, symbol: _Symbol) -> bool:
        if symbol.value > self.sections[symbol.section].size:
            raise LoadError("malformed object: a symbol beyond its section")
        return True

    def _offset_of(self, index: int) -> int:
        """Where a symbol lies in the image."""
        symbol = self.symbols[index]
        if symbol.section in self.placed and symbol.info & 15 != _INDIRECT_FUNCTION:
            self._inside(symbol)
            return self.placed[symbol.section] + symbol.value
        name = _text(self.symbol_names, symbol.name)
        if symbol.section == _UNDEFINED:
            raise LoadError(
                f"the object needs {name!r} from outside; kernels are self-contained: "
                "the module must define it"
            )
        raise LoadError(f"the object needs {name!r}, which is in no section that is loaded")

    def slot(self, index: int) -> int:
        """The offset of a word that holds a symbol's address (the global offset table)."""
        if index not in self.slots:
            self.content.extend(bytes(-len(self.content) % 8))
            offset = len(self.content)
            self.content += _U64.pack(self._offset_of(index))
            self.absolute.append(offset)
            self.slots[index] = offset
        return self.slots[index]

    def _relocate(self, table: _Section, apply: dict[int, _Rule]) -> None:
        begin = self.placed[table.info]
        size = self.sections[table.info].size
        for offset, kind, index, addend in _RELOCATION.iter_unpack(self._content(table)):
            rule = apply.get(kind)
            if rule is None:
                if not kind:
                    continue
                raise LoadError(f"relocation {kind} of {MACHINES[self.machine]} is not supported")
            if offset + rule.width > size:
                raise LoadError("malformed object: a relocation beyond its section")
            place = begin + offset
            target = self.slot(index) if rule.through_slot else self._offset_of(index)
            if rule.is_absolute:
                self.absolute.append(place)
            rule.write(self.content, place, target + addend)


def _kind_of(data: bytes) -> str:
    if data[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"):
        return "a Mach-O object, which is not supported yet"
    if data[:2] in (b"\x64\x86", b"\x64\xaa"):
        return "a COFF object, which is not supported yet"
    return f"something that begins with {bytes(data[:4])!r}"


def _text(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(0, offset)].decode()


def _check_section(name: str, section: _Section) -> None:
    if section.type not in (_PROGBITS, _NOBITS):
        raise LoadError(f"section {name} is of type {section.type}, which is not loaded")
    if section.flags & _THREAD_LOCAL:
        raise LoadError(f"section {name} is thread-local; kernels get scratch memory instead")
    if section.flags & _COMPRESSED:
        raise LoadError(f"section {name} is compressed")
    if section.flags & _WRITE and not name.startswith(".data.rel.ro"):
        raise LoadError(f"section {name} is writable; kernels write to their arguments only")
    alignment = section.alignment
    if not 0 < alignment <= PAGE or alignment & (alignment - 1):
        raise LoadError(f"section {name} is aligned to {alignment}; expected at most {PAGE}")


class _Rule(NamedTuple):
    """How one kind of relocation is filled in: ``write(content, place, target + addend)``."""

    write: Callable[[bytearray, int, int], None]
    width: int = 4
    is_absolute: bool = False
    through_slot: bool = False


def _word(content: bytearray, place: int, value: int) -> None:
    _U64.pack_into(content, place, value & (2**64 - 1))


def _distance64(content: bytearray, place: int, value: int) -> None:
    _U64.pack_into(content, place, (value - place) & (2**64 - 1))


def _distance32(content: bytearray, place: int, value: int) -> None:
    _I32.pack_into(content, place, value - place)


# Numbers of the x86-64 psABI, by its names without R_X86_64_.
_X86_64: dict[int, _Rule] = {
    1: _Rule(_word, 8, is_absolute=True),  # 64
    2: _Rule(_distance32),  # PC32
    4: _Rule(_distance32),  # PLT32
    9: _Rule(_distance32, through_slot=True),  # GOTPCREL
    24: _Rule(_distance64, 8),  # PC64
    41: _Rule(_distance32, through_slot=True),  # GOTPCRELX
    42: _Rule(_distance32, through_slot=True),  # REX_GOTPCRELX
}


def _patch(content: bytearray, place: int, bits: int, mask: int) -> None:
    (instruction,) = _U32.unpack_from(content, place)
    _U32.pack_into(content, place, instruction & ~mask | bits & mask)


def _signed(value: int, bits: int, scale: int) -> int:
    """``value / scale`` for a field of that many bits; LoadError where it does not fit."""
    if value % scale or not -(1 << bits - 1) <= value // scale < 1 << bits - 1:
        raise LoadError(f"a distance of {value} bytes does not fit its instruction")
    return value // scale


def _branch(bits: int, shift: int) -> Callable[[bytearray, int, int], None]:
    mask = (1 << bits) - 1 << shift

    def write(content: bytearray, place: int, value: int) -> None:
        _patch(content, place, _signed(value - place, bits, 4) << shift, mask)

    return write


def _adr(content: bytearray, place: int, distance: int) -> None:
    bits = (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5
    _patch(content, place, bits, 0x60FFFFE0)


def _address(content: bytearray, place: int, value: int) -> None:
    _adr(content, place, _signed(value - place, 21, 1))


def _page(content: bytearray, place: int, value: int) -> None:
    distance = (value & -PAGE) - (place & -PAGE)
    _adr(content, place, _signed(distance, 21, PAGE))


def _low_bits(scale: int) -> Callable[[bytearray, int, int], None]:
    def write(content: bytearray, place: int, value: int) -> None:
        _patch(content, place, _signed(value & PAGE - 1, 13, scale) << 10, 0x3FFC00)

    return write


# Numbers of the ELF ABI for AArch64, by its names without R_AARCH64_.
_AARCH64: dict[int, _Rule] = {
    257: _Rule(_word, 8, is_absolute=True),  # ABS64
    260: _Rule(_distance64, 8),  # PREL64
    261: _Rule(_distance32),  # PREL32
    273: _Rule(_branch(19, 5)),  # LD_PREL_LO19
    274: _Rule(_address),  # ADR_PREL_LO21
    275: _Rule(_page),  # ADR_PREL_PG_HI21
    276: _Rule(_page),  # ADR_PREL_PG_HI21_NC
    277: _Rule(_low_bits(1)),  # ADD_ABS_LO12_NC
    278: _Rule(_low_bits(1)),  # LDST8_ABS_LO12_NC
    279: _Rule(_branch(14, 5)),  # TSTBR14
    280: _Rule(_branch(19, 5)),  # CONDBR19
    282: _Rule(_branch(26, 0)),  # JUMP26
    283: _Rule(_branch(26, 0)),  # CALL26
    284: _Rule(_low_bits(2)),  # LDST16_ABS_LO12_NC
    285: _Rule(_low_bits(4)),  # LDST32_ABS_LO12_NC
    286: _Rule(_low_bits(8)),  # LDST64_ABS_LO12_NC
    299: _Rule(_low_bits(16)),  # LDST128_ABS_LO12_NC
    311: _Rule(_page, through_slot=True),  # ADR_GOT_PAGE
    312: _Rule(_low_bits(8), through_slot=True),  # LD64_GOT_LO12_NC
}
