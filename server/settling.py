"""When a change in the models folder counts: new versions when they are whole, losses when they last.

Plain policy: no file, no clock. It counts looks.
"""

from collections.abc import Collection, Mapping

from server.folders import ModelFolder, VersionFolder

# So many looks in a row a thing must be gone, or an unfinished folder unchanged, until that is taken at its word.
PATIENCE_LOOKS = 3

# A model, and of it a version or its labels.
_Key = tuple[str, int | str]


class Settling:
    """Turns what was seen into what counts, look by look."""

    def __init__(self, patience_looks: int = PATIENCE_LOOKS) -> None:
        self._patience_looks = patience_looks
        self._gone: dict[_Key, int] = {}
        self._unfinished: dict[_Key, tuple[VersionFolder, int]] = {}
        # Whether models are kept that are gone, since nothing else would serve.
        self.withholds = False

    def settle(
        self,
        seen: Mapping[str, ModelFolder | None],
        known: Mapping[str, ModelFolder],
        serving: Collection[str] = (),
    ) -> dict[str, ModelFolder]:
        """What counts after one look more: `known` counted until now, `serving` are the models that answer.

        A model that is not in it is gone. None in `seen` is a model that is there and cannot be read. If nothing would
        be left that serves, nothing is gone: a file system that was unmounted looks like that.
        """
        gone, self._gone = self._gone, {}
        unfinished, self._unfinished = self._unfinished, {}
        settled: dict[str, ModelFolder] = {}
        lost: list[str] = []
        for name in sorted({*seen, *known}):
            before = known.get(name)
            if name not in seen:
                if self._lasts((name, ""), gone):
                    lost.append(name)
                else:
                    settled[name] = known[name]
                continue
            folder = seen[name]
            if folder is None:
                if before is not None:
                    settled[name] = before
                continue
            found = self._model(name, folder, before or ModelFolder(), gone, unfinished)
            # An empty folder is no model yet.
            if found.versions or before is not None:
                settled[name] = found
        withheld, self.withholds = self.withholds, bool(serving) and set(serving) <= set(lost)
        if self.withholds or withheld:
            # Of what comes back, not everything comes at once: the rest has its looks again.
            settled |= {name: known[name] for name in lost}
        if withheld and not self.withholds:
            self._gone |= {(name, ""): 0 for name in lost}
        return settled

    def _model(
        self,
        name: str,
        seen: ModelFolder,
        known: ModelFolder,
        gone: Mapping[_Key, int],
        unfinished: Mapping[_Key, tuple[VersionFolder, int]],
    ) -> ModelFolder:
        versions: dict[int, VersionFolder] = {}
        for number in sorted({*seen.versions, *known.versions}, reverse=True):
            now, before = seen.versions.get(number), known.versions.get(number)
            if now is None:
                if before is not None and not self._lasts((name, number), gone):
                    versions[number] = before
            elif self._counts((name, number), now, before, unfinished):
                versions[number] = now
            elif before is not None:
                versions[number] = before
        labels = seen.labels
        if not seen.readable_labels or (not labels and known.labels and not self._lasts((name, "labels"), gone)):
            labels = known.labels
        return ModelFolder(versions, labels)

    def _lasts(self, key: _Key, gone: Mapping[_Key, int]) -> bool:
        """Whether what is gone now has been gone for long enough."""
        self._gone[key] = gone.get(key, 0) + 1
        return self._gone[key] >= self._patience_looks

    def _counts(
        self,
        key: _Key,
        now: VersionFolder,
        before: VersionFolder | None,
        unfinished: Mapping[_Key, tuple[VersionFolder, int]],
    ) -> bool:
        """Whether a version's folder is to be taken as it is now."""
        if now.manifest is None:
            # Not there yet, or on its way out.
            return False
        if before is not None and now.is_same(before):
            # What was known of it goes further, perhaps.
            return False
        if now.whole:
            return True
        last, looks = unfinished.get(key, (now, 0))
        looks = looks + 1 if now.is_same(last) else 1
        self._unfinished[key] = now, looks
        return looks >= self._patience_looks
