"""The farm's ledger: rows and leases in Postgres, bytes in the store.

Shape legend: B batch, C channels, L latent frames, H W height and width, S tokens, D width.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetensors.torch import load, save

from db.leases import Lease, LostLease
from db.states import SegmentState
from dreamontage.rendering.ledger import Claim, LostLatents, Waiting, storable
from dreamontage.rendering.take_plan import StaleTake
from flows.studio.farm import Farm
from storage.base import size_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PostgresLedger:
    """A segment's row has to be there before it is claimed: see `set_take_segments`."""

    farm: Farm

    def is_finished(self, key: str) -> bool:
        return self.farm.repository.segment(key).state is SegmentState.DONE

    def latents(self, key: str) -> Tensor:
        address = self.farm.repository.segment(key).latents_address
        data = address and self.farm.read(address)
        if not data:
            if address is not None:
                self.farm.repository.clear_latents(key, address)
            raise LostLatents(key)
        return load(data)["latents"]

    @contextmanager
    def claim(
        self, key: str, *, steps: int, waiting: Waiting = lambda holder: None
    ) -> Iterator[Claim | None]:
        lease = self._lease(key, waiting)
        if lease is None:
            yield None
            return
        try:
            with _heartbeat(self.farm, lease):
                yield _PostgresClaim(self.farm, lease)
        except LostLease:
            raise
        except BaseException as error:
            # Also on cancellation: the next worker need not wait until the lease expires.
            _release_after_error(self.farm, lease, error)
            raise

    def embedding(self, key: str) -> Tensor | None:
        address = self.farm.repository.embedding(key)
        data = address and self.farm.read(address)
        return load(data)["embedding"] if data else None

    def put_embedding(self, key: str, embedding_BSD: Tensor) -> None:
        data = save({"embedding": embedding_BSD.cpu().contiguous()})
        address = self.farm.store.put("embeddings", data, ".safetensors")
        self.farm.repository.add_embedding(key, address)

    def draft(self, key: str) -> Tensor | None:
        address = self.farm.repository.segment(key).enlarged_address
        data = address and self.farm.read(address)
        if not data:
            if address is not None:
                self.farm.repository.clear_enlarged(key, address)
            return None
        return load(data)["latents"]

    def has_draft(self, key: str) -> bool:
        address = self.farm.repository.segment(key).enlarged_address
        return address is not None and size_of(self.farm.store, address) is not None

    def put_draft(self, key: str, latents_BCLHW: Tensor) -> None:
        data = save({"latents": storable(latents_BCLHW)})
        self.farm.repository.set_enlarged(
            key, self.farm.store.put("enlarged", data, ".safetensors")
        )

    def _lease(self, key: str, waiting: Waiting) -> Lease | None:
        """The lease on a segment, as soon as nobody else holds it; None when it is finished."""
        repository, settings = self.farm.repository, self.farm.settings
        reported = ""
        while True:
            row = repository.segment(key)
            if row.state is SegmentState.DONE:
                return None
            lease = repository.claim_segment(key, self.farm.holder, settings.lease_ttl)
            if lease is not None:
                return lease
            if row.lease_holder and row.lease_holder != reported:
                reported = row.lease_holder
                waiting(reported)
            time.sleep(min(1.0, settings.heartbeat_seconds))


@dataclass
class _PostgresClaim:
    farm: Farm
    lease: Lease
    stored: str | None = field(init=False)
    """Where the newest checkpoint is."""

    def __post_init__(self) -> None:
        self.stored = self.lease.checkpoint_address

    @property
    def checkpoint(self) -> bytes | None:
        # A lost one costs its steps, no more.
        return self.farm.read(self.stored) if self.stored else None

    def save_checkpoint(self, state: bytes, *, step: int, steps_run: int) -> None:
        address = self.farm.store.put("checkpoints", state, ".safetensors")
        self.farm.repository.save_checkpoint(self.lease, address, step, steps_run=steps_run)
        before, self.stored = self.stored, address
        self._delete(before, unless=address)

    def finish(self, latents_BCLHW: Tensor, *, steps_run: int) -> None:
        data = save({"latents": storable(latents_BCLHW)})
        address = self.farm.store.put("latents", data, ".safetensors")
        enlarged = self.farm.repository.segment(self.lease.key).enlarged_address
        self.farm.repository.finish_segment(self.lease, address, steps_run=steps_run)
        for each in (self.stored, enlarged):
            self._delete(each, unless=address)

    def _delete(self, address: str | None, *, unless: str) -> None:
        if address is not None and address != unless:
            self.farm.store.delete(address)


def _release_after_error(farm: Farm, lease: Lease, error: BaseException) -> None:
    with suppress(LostLease):  # another holder has it, which is what releasing is for
        # A stale take says nothing against the segment.
        if isinstance(error, Exception) and not isinstance(error, StaleTake):
            farm.repository.fail_segment(lease, f"{type(error).__name__}: {error}")
        else:
            farm.repository.release(lease)


@contextmanager
def _heartbeat(farm: Farm, lease: Lease) -> Iterator[None]:
    """Renew the lease from a thread of its own: a denoise step may take longer than the lease."""
    done = threading.Event()

    def renew_lease() -> None:
        while not done.wait(farm.settings.heartbeat_seconds):
            try:
                farm.repository.heartbeat(lease, farm.settings.lease_ttl)
            except LostLease:
                return  # the next write finds out, and says so
            except Exception:
                continue

    thread = threading.Thread(target=renew_lease, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
