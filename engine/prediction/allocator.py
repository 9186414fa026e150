"""A model of torch's caching allocator on CUDA: what it holds (reserved) for a stream of allocations, not only what is alive.

The rules are those of c10/cuda/CUDACachingAllocator.cpp with its defaults and one stream: sizes round up to 512 bytes; blocks of
at most 1 MiB come from segments of 2 MiB, below 10 MiB from segments of 20 MiB, larger ones from a segment of their own in
steps of 2 MiB; the smallest free block that fits is taken, the lower address first; a large block is split only when more than
1 MiB is left of it, so that it may count for up to 1 MiB more than its tensor; neighbours that are both free become one. With
expandable segments each pool is one segment that grows by pages, its end is taken last of all, and whatever is left of a block
is split off. Where a segment finds no room, those that are free as a whole are given back first (`release_cached_blocks`).
Not modelled: garbage collection, which is off unless a setting turns it on, and expandable segments at the limit.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

MIB = 2**20
GRANULE = 512
SMALL = MIB
"""Blocks up to so large come from the pool of small ones."""
ENDLESS = 2**62
ALIGNED = 64
"""Bytes: of a tensor on a CPU."""


@dataclass(slots=True, eq=False)
class _Block:
    address: int
    size: int
    pool: "_Pool"
    free: bool = False
    before: "_Block | None" = None
    after: "_Block | None" = None


@dataclass(slots=True)
class _Pool:
    large: bool
    free: list[tuple[int, int]] = field(default_factory=list)
    """(size, address), ascending."""
    blocks: dict[int, _Block] = field(default_factory=dict)
    """By address."""
    end: "_Block | None" = None
    """The last block of a pool that grows in place."""

    def take(self, size: int) -> _Block | None:
        """The smallest free block that fits, no longer free."""
        place = bisect_left(self.free, (size, -1))
        if place == len(self.free):
            return None
        if place + 1 < len(self.free) and self.blocks[self.free[place][1]] is self.end:
            place += 1  # for the end counts how far it could grow (`get_free_block`)
        block = self.blocks[self.free.pop(place)[1]]
        block.free = False
        return block

    def give(self, block: _Block) -> None:
        """Put a free block among the others."""
        block.free = True
        insort(self.free, (block.size, block.address))

    def forget(self, block: _Block) -> None:
        """Take a free block out of the list."""
        self.free.pop(bisect_left(self.free, (block.size, block.address)))


class OutOfRoom(Exception):
    """A segment finds no room, whatever is given back."""


class Allocator:
    """Counters in bytes, as `torch.cuda.memory_allocated` and `memory_reserved` give them."""

    def __init__(self, *, expandable: bool = False, limit: int | None = None) -> None:
        """`expandable` stands for `expandable_segments:True`: each pool is one segment that grows where it ends. `limit` are the
        bytes that there are, for segments that do not grow."""
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0
        self._expandable, self._limit = expandable, limit
        self._pools = (_Pool(large=False), _Pool(large=True))
        self._next = 0
        self._held: dict[int, _Block] = {}

    def allocate(self, name: int, size: int) -> None:
        """A block of `size` bytes, to be known by that number."""
        size = max(-(-size // GRANULE) * GRANULE, GRANULE)
        pool = self._pools[size > SMALL]
        block = pool.take(size) or self._grow(pool, size)
        left = block.size - size
        if left > SMALL if pool.large and not self._expandable else left >= GRANULE:
            self._split(block, size)
        self._hold(name, block)

    def _split(self, block: _Block, size: int) -> None:
        """Leave the block that much; the rest is free."""
        pool = block.pool
        rest = _Block(block.address + size, block.size - size, pool, before=block, after=block.after)
        if rest.after is not None:
            rest.after.before = rest
        block.after, block.size = rest, size
        pool.blocks[rest.address] = rest
        if pool.end is block:
            pool.end = rest
        pool.give(rest)

    def _hold(self, name: int, block: _Block) -> None:
        self._held[name] = block
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)

    def release(self, name: int) -> None:
        """The block of that number is no longer used."""
        block = self._held.pop(name)
        self.allocated -= block.size
        self._free(block)

    def empty_cache(self) -> None:
        """Give back the segments that are free as a whole."""
        for pool in self._pools:
            if self._expandable:
                continue
            for size, address in list(pool.free):
                block = pool.blocks[address]
                if block.before is None and block.after is None:
                    pool.forget(block)
                    del pool.blocks[address]
                    self.reserved -= size

    def _free(self, block: _Block) -> None:
        pool = block.pool
        before, after = block.before, block.after
        if before is not None and before.free:
            pool.forget(before)
            del pool.blocks[block.address]
            before.size += block.size
            before.after = after
            if after is not None:
                after.before = before
            if pool.end is block:
                pool.end = before
            block = before
        if after is not None and after.free:
            pool.forget(after)
            del pool.blocks[after.address]
            block.size += after.size
            block.after = after.after
            if after.after is not None:
                after.after.before = block
            if pool.end is after:
                pool.end = block
        pool.give(block)

    def _grow(self, pool: _Pool, size: int) -> _Block:
        if self._expandable:
            return self._extend(pool, size)
        segment = 2 * MIB if not pool.large else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
        if self._limit is not None and self.reserved + segment > self._limit:
            self.empty_cache()
            if self.reserved + segment > self._limit:
                raise OutOfRoom
        block = _Block(self._next, segment, pool)
        self._next += segment + MIB  # never neighbours
        pool.blocks[block.address] = block
        self._more(segment)
        return block

    def _extend(self, pool: _Pool, size: int) -> _Block:
        """Map as many pages behind the pool's end as are lacking."""
        page = 20 * MIB if pool.large else 2 * MIB
        last = pool.end
        if last is not None and last.free:
            pool.forget(last)
            lacking = -(-(size - last.size) // page) * page
            last.size += lacking
            last.free = False
            self._more(lacking)
            return last
        mapped = -(-size // page) * page
        start = last.address + last.size if last is not None else 0
        block = _Block(start, mapped, pool, before=last)
        if last is not None:
            last.after = block
        pool.blocks[start], pool.end = block, block
        self._more(mapped)
        return block

    def _more(self, size: int) -> None:
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)


class Heap(Allocator):
    """glibc's heap as the worker has it on a CPU (`engine.launch.ALLOCATOR`): every block comes from one arena, the smallest
    free piece that holds it, else its end, and nothing is given back. What is held is as far as it ever reached.

    Tensors begin at multiples of 64 bytes. For that a piece has to be larger than what is taken of it, so that a block does not
    fit where one of its size was, unless a neighbour is free as well.
    """

    def __init__(self) -> None:
        super().__init__(expandable=True)
        self._arena = _Pool(large=True)
        self._arena.blocks[0] = _Block(0, ENDLESS, self._arena)  # what lies behind the last block fits last of all
        self._arena.give(self._arena.blocks[0])

    def allocate(self, name: int, size: int) -> None:
        """A block of `size` bytes, to be known by that number."""
        size = (-(-size // ALIGNED) + 1) * ALIGNED
        block = self._arena.take(size + ALIGNED)
        assert block is not None
        self._split(block, size)
        self._hold(name, block)
        self.reserved = max(self.reserved, block.address + size)
        self.peak_reserved = max(self.peak_reserved, self.reserved)


class Unpooled:
    """A device whose tensors come from the system one by one, as on a CPU: what is held is what is alive."""

    def __init__(self) -> None:
        self.allocated = self.peak_allocated = self.peak_reserved = 0
        self._held: dict[int, int] = {}

    @property
    def reserved(self) -> int:
        """Bytes held."""
        return self.allocated

    def allocate(self, name: int, size: int) -> None:
        """A block of `size` bytes, to be known by that number."""
        self._held[name] = size
        self.allocated += size
        self.peak_allocated = self.peak_reserved = max(self.peak_allocated, self.allocated)

    def release(self, name: int) -> None:
        """The block of that number is no longer used."""
        self.allocated -= self._held.pop(name)

    def empty_cache(self) -> None:
        """There is none."""
