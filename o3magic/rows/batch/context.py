"""The context of batch jobs: the session with its settings, key and ledger, and the job store."""

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
from o3magic.session.estimate import build_budgets
from o3magic.session.session import Session
from o3magic.session.spending import LedgerContext


@dataclass(frozen=True)
class BatchContext:
    """The session and the store that a batch job works with.

    close_after: the session is closed after each call, because only the job uses it
    show: makes the display of a wait
    """

    session: Session
    store: JobStore
    close_after: bool = False
    sleep: Callable[[float], None] = time.sleep
    show: Callable[[], ProgressDisplay] = NoProgress

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Close the session and the store at the end, if `close_after`."""
        try:
            yield
        finally:
            if self.close_after:
                self.session.close()
                self.store.close()

    @property
    def place(self) -> LedgerContext:
        """The labels of its ledger entries."""
        return LedgerContext(self.session.id, self.session.notebook, self.session.cell_key)

    def sending(self, spec: UploadSpec) -> Uploader:
        """The uploader of a job, with the key that is set now. Raises NoKey."""
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
        has_prices = provider.list_prices or provider.prices
        is_free = provider.embedded or (provider.local and not has_prices)
        budgets = [] if is_free else [b for b in build_budgets(profile) if b.scope != "call"]
        store = BatchStore(self.store)
        return Uploader(store, files, session.keeping, self.place, spec, budgets, self.sleep)

    def fetching(
        self, uploader: Uploader, wanted: AnswerType | None, created_s: int | None
    ) -> Downloader:
        """The downloader of a batch. created_s: when it was created, the day of its prices."""
        spec, day = uploader.spec, datetime.now(UTC)
        if created_s is not None:
            day = datetime.fromtimestamp(created_s, UTC)
        api: Api = "chat" if spec.api == "chat" else "responses"
        provider, catalog = uploader.files.provider, self.session.catalog
        return Downloader(
            uploader, LineReader(api, spec.model, provider, catalog, wanted, day.date())
        )
