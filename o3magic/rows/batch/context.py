"""Where batches are worked on: whose settings, key and books, and which file of jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from o3magic.client.files import Files
from o3magic.messages import Api
from o3magic.rows.batch.download import Downloader, LineReader
from o3magic.rows.batch.store import BatchStore
from o3magic.rows.batch.upload import Uploader, UploadSpec
from o3magic.rows.progress import NoProgress, ProgressDisplay
from o3magic.rows.store import JobStore
from o3magic.schemas.lookup import AnswerType
from o3magic.session.estimate import budgets_of
from o3magic.session.session import Session
from o3magic.session.spending import LedgerContext


@dataclass(frozen=True)
class BatchContext:
    """Where a job is worked on.

    close_after: nobody else uses the session; it is opened again when it is needed.
    show: makes the place where a wait is shown.
    """

    session: Session
    store: JobStore
    close_after: bool = False
    sleep: Callable[[float], None] = time.sleep
    show: Callable[[], ProgressDisplay] = NoProgress

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Work that may open connections, and closes them where they are its own."""
        try:
            yield
        finally:
            if self.close_after:
                self.session.close()
                self.store.close()

    @property
    def place(self) -> LedgerContext:
        """Where the ledger is told that it happened."""
        return LedgerContext(self.session.id, self.session.notebook, self.session.cell_key)

    def sending(self, spec: UploadSpec) -> Uploader:
        """Who sends the parts of a job, with the key that is set now. Raises NoKey."""
        session = self.session
        profile = replace(session.layers.profile(), provider=spec.provider)
        provider = session.reach.provider(profile)
        files = Files(
            session.client,
            provider,
            session.reach.key(provider),
            retries=profile.retries,
            sleep=self.sleep,
        )
        free = provider.embedded or (
            provider.local and not (provider.list_prices or provider.prices)
        )
        budgets = [] if free else [each for each in budgets_of(profile) if each.scope != "call"]
        store = BatchStore(self.store)
        return Uploader(store, files, session.keeping, self.place, spec, budgets, self.sleep)

    def fetching(
        self, sending: Uploader, wanted: AnswerType | None, created_s: int | None
    ) -> Downloader:
        """Who fetches what came of a batch. created_s: when it was made, the day of its prices."""
        spec, day = sending.spec, datetime.now(UTC)
        if created_s is not None:
            day = datetime.fromtimestamp(created_s, UTC)
        api: Api = "chat" if spec.api == "chat" else "responses"
        provider, catalog = sending.files.provider, self.session.catalog
        reading = LineReader(api, spec.model, provider, catalog, wanted, day.date())
        return Downloader(sending, reading)
