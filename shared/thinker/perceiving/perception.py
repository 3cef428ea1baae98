"""Perception: thousands of observations folded into a few findings, by counting.

Theory. A deterministic fold over `observation.recorded` in stream order. Every line goes to exactly one template of its
source (`mining`), every template has two windows and a decayed mean, every timed source a rate, every sensor field a level
(`rates`). What stands out becomes a record that keeps counting (`records`). There is no clock: a line's time is
`observed_at`, else the time written in it, else its source is measured in lines instead of minutes.

Invariants. Findings depend on the stream only, never on how it was batched. A record's count equals what its probe counts
(more may be counted when a template was evicted meanwhile, never less). The state is bounded by the constants below and
those of `mining` and `records`, under 256 KiB as `state()` writes it. `add` is total: any observation, any text.

A new message that turns out to come by at a rate at which it could as well have come by before is withdrawn.
Events already folded, and other classes, change nothing.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable

import msgspec

from shared.contracts.envelope import Envelope, Recorded
from shared.contracts.events import EvidenceRef, ObservationRecorded
from shared.contracts.trace import trace_id
from shared.thinker.perceiving import sensors
from shared.thinker.perceiving.lines import CRITICAL, ERROR, INFO, WARNING
from shared.thinker.perceiving.mining import Template, Templates, Window
from shared.thinker.perceiving.rates import (
    LONG,
    NEW_AFTER_LINES,
    SHORT_S,
    WARM_LINES,
    Metric,
    is_burst,
    is_new,
    limits,
    roll,
)
from shared.thinker.perceiving.records import Kind, Record, excerpt, instant, topic_of
from shared.thinker.perceiving.searching import written_at
from shared.thinker.perceiving.sources import Source, begun_at, louder
from shared.thinker.perceiving.templates import Line, agrees, is_status, read, split
from shared.thinker.port import Finding, Percept, SourceSeen

MAX_SOURCES = 24
MAX_RECORDS = 32
MAX_METRICS = 12
MAX_SEEN = 1024
MAX_NEWS, NEWS_LINES = 3, 500
"""A source with so many new messages in so many lines is one where new messages are ordinary."""
RECENT_SEQS = 1024
MARK_EVERY, MAX_MARKS = 256, 512
SAMPLES, SAMPLE_BYTES = 16, 300
MAX_TRACES = 128


class State(msgspec.Struct, array_like=True):
    """Everything; `seen` are CRC-32s of bad templates already met, oldest first."""

    last_seq: int = 0
    total: int = 0
    sources: dict[str, Source] = {}
    templates: list[Template] = []
    records: dict[str, Record] = {}
    seen: dict[int, None] = {}
    seqs: list[int] = []
    marks: list[tuple[int, int]] = []
    """(sequence, total) of every 256th line, for counting further back than `seqs`."""
    samples: list[tuple[EvidenceRef, str]] = []
    traces: dict[str, str] = {}
    origins: list[int] = []
    """Of each of `seqs` the mark of its source."""


class Perception:
    """The fold; see the module's theory."""

    def __init__(self) -> None:
        self._use(State())

    def _use(self, state: State) -> None:
        self._state = state
        self._templates = Templates(state.templates, self._align)

    def state(self) -> bytes:
        """The whole state as MessagePack, at most 256 KiB."""
        kept = [(ref, excerpt(text, SAMPLE_BYTES)) for ref, text in self._state.samples[-SAMPLES:]]
        return msgspec.msgpack.encode(msgspec.structs.replace(self._state, samples=kept))

    def restore(self, state: bytes) -> None:
        """Go on from what `state` gave. Raises `msgspec.MsgspecError` when it is none."""
        self._use(msgspec.msgpack.decode(state, type=State))

    @property
    def last_seq(self) -> int:
        """Everything up to this stream sequence is folded in."""
        return self._state.last_seq

    def newest(self, perceives: Callable[[str], bool] | None) -> int:
        """The newest sequence of the sources that are perceived; None: all."""
        if perceives is None:
            return self._state.last_seq
        return max((source.last_seq for name, source in self._state.sources.items() if perceives(name)), default=0)

    def percept(self, after_seq: int, sample: int = 8, perceives: Callable[[str], bool] | None = None) -> Percept:
        """What is new after `after_seq`: counts, the findings raised since, and up to `sample` (≤ 16) lines, verbatim up to 300 bytes.

        `new` is exact for up to 1 024 new lines, beyond that to within 256, beyond 131 072 a lower bound. With `perceives`, of these
        sources alone, and a lower bound beyond 1 024 new lines of all; the lines shown are those among the newest 16 of all.
        """
        state = self._state
        if perceives is not None:
            return self._attentive(after_seq, sample, perceives)
        position = bisect_right(state.seqs, after_seq)
        first = state.seqs[position] if position < len(state.seqs) else 0
        new = len(state.seqs) - position
        if position == 0 and len(state.seqs) < state.total:
            mark = next((mark for mark in state.marks if mark[0] > after_seq), (first, state.total - new + 1))
            first, new = mark[0], state.total - mark[1] + 1
        shown = [(ref, text) for ref, text in state.samples[-min(sample, SAMPLES) :] if ref.seq > after_seq]
        findings = sorted((r.finding() for r in state.records.values() if r.seq > after_seq), key=_by_seq)
        return Percept(
            first_seq=first,
            last_seq=state.last_seq,
            new=new,
            total=state.total,
            templates=len(state.templates),
            findings=tuple(findings),
            samples=tuple((ref, excerpt(text, SAMPLE_BYTES)) for ref, text in shown) if sample > 0 else (),
            traces=dict(state.traces),
        )

    def _attentive(self, after_seq: int, sample: int, perceives: Callable[[str], bool]) -> Percept:
        state = self._state
        names = {name: source for name, source in state.sources.items() if perceives(name)}
        marks = {source.mark for source in names.values()}
        position = bisect_right(state.seqs, after_seq)
        new = [s for s, mark in zip(state.seqs[position:], state.origins[position:], strict=True) if mark in marks]
        known = set(new)
        shown = [(ref, excerpt(text, SAMPLE_BYTES)) for ref, text in state.samples if ref.seq in known]
        findings = (r.finding() for r in state.records.values() if r.seq > after_seq and perceives(r.source))
        return Percept(
            first_seq=new[0] if new else 0,
            last_seq=self.newest(perceives),
            new=len(new),
            total=sum(source.lines for source in names.values()),
            templates=sum(template.source in names for template in state.templates),
            findings=tuple(sorted(findings, key=_by_seq)),
            samples=tuple(shown[-min(sample, SAMPLES) :]) if sample > 0 else (),
            traces=dict(state.traces),
        )

    def sources(self) -> tuple[SourceSeen, ...]:
        """The sources there are, by name, at most `MAX_SOURCES`."""
        return tuple(
            SourceSeen(
                name=name,
                lines=source.lines,
                first_at=instant(source.start * float(SHORT_S)) if source.timed else None,
                last_at=instant(source.now) if source.timed else None,
            )
            for name, source in sorted(self._state.sources.items())
        )

    def add(self, recorded: Recorded) -> None:
        """Fold in one event."""
        event, state = recorded.event, self._state
        if not isinstance(event, ObservationRecorded) or recorded.seq <= state.last_seq:
            return
        state.last_seq = recorded.seq
        state.total += 1
        state.seqs.append(recorded.seq)
        if state.total % MARK_EVERY == 0:
            state.marks.append((recorded.seq, state.total))
            del state.marks[:-MAX_MARKS]
        self._trace(recorded.envelope)
        ref = EvidenceRef(id=recorded.envelope.id, seq=recorded.seq)
        state.samples.append((ref, event.text))
        if len(state.samples) > 4 * SAMPLES:
            del state.samples[: 3 * SAMPLES]
        line = read(event.text)
        source = self._advance(event, line, recorded)
        if line.masked.startswith("host ") and self._sensor(source, event, ref):
            return
        self._count(source, event, line, ref)

    def _trace(self, envelope: Envelope) -> None:
        traces, traceparent = self._state.traces, envelope.traceparent
        if traceparent is not None and trace_id(envelope.id) not in traceparent:
            traces[envelope.id] = traceparent
            if len(traces) > MAX_TRACES:
                del traces[next(iter(traces))]

    # -- sources and their clocks ------------------------------------------------------------------------------------

    def _advance(self, event: ObservationRecorded, line: Line, recorded: Recorded) -> Source:
        """The line's source, with its clock moved on."""
        state = self._state
        source = state.sources.get(event.source)
        if source is None:
            source = self._new_source(event.source)
        at = written_at(event, line.stamp, recorded.stored_at)
        if not source.tick(at):
            source = self._new_source(event.source, at)
            source.tick(at)
        source.used, source.last_seq = state.total, recorded.seq
        state.origins.append(source.mark)
        if len(state.seqs) >= 2 * RECENT_SEQS:
            del state.seqs[:RECENT_SEQS], state.origins[:RECENT_SEQS]
        return source

    def _new_source(self, name: str, at: float | None = None) -> Source:
        state = self._state
        if name in state.sources:
            self._templates.drop(name)
        elif len(state.sources) >= MAX_SOURCES:
            oldest = min(state.sources, key=lambda known: state.sources[known].used)
            del state.sources[oldest]
            self._templates.drop(oldest)
        source = state.sources[name] = begun_at(at)
        source.mark = zlib.crc32(name.encode("utf-8", "surrogatepass"))
        return source

    def _align(self, template: Template) -> None:
        source = self._state.sources[template.source]
        roll(template, source.index, source.closed)

    # -- lines -------------------------------------------------------------------------------------------------------

    def _count(self, source: Source, event: ObservationRecorded, line: Line, ref: EvidenceRef) -> None:
        index, total = source.index, self._state.total
        template = self._templates.find(event.source, line.masked)
        fresh = template is None
        if template is None:
            template = self._templates.add(event.source, line.masked, line.body, total)
            template.born = source.lines - 1
            template.novel = self._is_surprise(source, template, line.masked) and template.novel
        short, long = template.short, template.long
        if short.index != index:
            roll(template, index, source.closed)
        if short.count == 0:
            short.first_seq, short.first_at, template.first = ref.seq, source.now, ref
        if long.count == 0:
            long.first_seq, long.first_at = ref.seq, source.now
        short.count += 1
        long.count += 1
        template.count += 1
        template.touched = total
        if template.severity >= WARNING:
            source.bad += 1
        if source.timed:
            self._rate(source, event, ref)
        record = self._record_of(template, index)
        if record is not None:
            if record.words == template.words or agrees(record.words, split(line.masked)):
                record.grow(ref, source.now, index)
                if (
                    record.kind == "new_message"
                    and record.count > 2
                    and not is_new(record.count, source.lines - record.before, record.before)
                ):
                    del self._state.records[record.topic]
        elif template.novel and ((template.severity >= ERROR and fresh) or template.count == 3):
            window = short if short.count == template.count else long
            told = fresh or is_new(template.count, source.lines - template.born, template.born)
            if (
                window.count == template.count
                and told
                and not self._companion(event.source, template, source.window_of(window))
            ):
                self._raise("new_message", source, event, template, window, ref, 2 * LONG)
        elif long.count >= 8 and source.warm:
            self._burst(source, event, template, ref)
        elif template.severity >= ERROR and 8 <= template.count <= 64 and template.born >= WARM_LINES:
            self._outbreak(source, event, template, ref)
        template.latest = ref

    def _record_of(self, template: Template, index: int) -> Record | None:
        """The template's running record; one that had no line for its patience is over."""
        if not template.topic:
            return None
        record = self._state.records.get(template.topic)
        if record is None or not record.active or index - record.index > record.patience:
            template.topic = ""
            if record is not None:
                record.active = False
            return None
        return record

    def _is_surprise(self, source: Source, template: Template, masked: str) -> bool:
        """Whether a new bad template should surprise here: by Good-Turing, where bad lines are seldom one of a kind.

        Sets `born` to 0 when it cannot be said that the template was never there (it may have been forgotten).

        Good, "The population frequencies of species" (1953): the chance that the next is new is about singletons / all.
        """
        if template.severity < WARNING:
            template.born = 0
            return False
        mark = zlib.crc32(f"{template.source}\0{masked}".encode("utf-8", "surrogatepass"))
        seen = self._state.seen
        known = mark in seen
        template.born = 0 if known else template.born
        seen[mark] = None
        if len(seen) > MAX_SEEN:
            del seen[next(iter(seen))]
        enough = WARM_LINES if template.severity >= CRITICAL else NEW_AFTER_LINES
        if known or not source.warm or source.lines <= enough or any(map(is_status, template.words)):
            return False
        lately = sum(
            r.kind == "new_message" and r.source == template.source and source.lines - r.before <= NEWS_LINES
            for r in self._state.records.values()
        )
        singles = sum(
            1 for t in self._templates.known if t.count == 1 and t.severity >= WARNING and t.source == template.source
        )
        return lately < MAX_NEWS and singles / (source.bad + 5) <= 0.25

    def _burst(self, source: Source, event: ObservationRecorded, template: Template, ref: EvidenceRef) -> None:
        for window, long in ((template.short, False), (template.long, True)):
            bounds = limits(template.severity, source.timed, long)
            if source.closed < bounds.warm or not is_burst(window.count, window.usual, window.peak, bounds):
                continue
            if template.severity == INFO and source.rate_topic:
                continue
            if self._companion(event.source, template, source.window_of(window)):
                continue
            self._raise("burst", source, event, template, window, ref, 2 * LONG if long else 2)
            return

    def _outbreak(self, source: Source, event: ObservationRecorded, template: Template, ref: EvidenceRef) -> None:
        """A failure not once among the first lines, then one after the other: told even when too few windows have passed."""
        window = template.short if template.short.count == template.count else template.long
        if window.count != template.count or not is_new(
            template.count, 3 * (source.lines - template.born), template.born
        ):
            return
        if not self._companion(event.source, template, source.window_of(window)):
            self._raise("burst", source, event, template, window, ref, 2 * LONG)

    def _companion(self, name: str, template: Template, begun: int) -> bool:
        """Whether a running record of the same program began at about the same time: the same story told in other lines."""
        return any(
            record.active
            and record.source == name
            and record.program == template.program
            and record.kind != "metric_shift"
            and record.severity >= template.severity
            and abs(record.mark - begun) <= 2
            for record in self._state.records.values()
        )

    def _raise(
        self,
        kind: Kind,
        source: Source,
        event: ObservationRecorded,
        template: Template,
        window: Window,
        ref: EvidenceRef,
        patience: int,
    ) -> None:
        record = Record(
            topic=topic_of("line", event.source, template.program, template.words),
            kind=kind,
            source=event.source,
            program=template.program,
            words=template.words,
            severity=template.severity,
            timed=source.timed,
            seq=ref.seq,
            first_seq=window.first_seq,
            first_at=window.first_at,
            last_seq=ref.seq,
            last_at=source.now,
            mark=source.window_of(window),
            index=source.index,
            count=window.count,
            raised=window.count,
            usual=template.short.usual,
            before=template.born if template.count == window.count else 0,
            sample=excerpt(event.text),
            patience=patience,
            refs=[
                r for r in (template.first, template.latest) if r is not None and window.first_seq <= r.seq < ref.seq
            ],
        )
        record.stride = max(1, window.count // 4)
        if len(record.refs) == 2 and record.refs[0].seq >= record.refs[1].seq:
            del record.refs[1]
        self._keep(record, ref)
        template.topic = record.topic

    def _keep(self, record: Record, ref: EvidenceRef) -> None:
        record.refs.append(ref)
        record.last = ref
        records = self._state.records
        records[record.topic] = record
        if len(records) > MAX_RECORDS:
            del records[min(records, key=lambda topic: (records[topic].active, records[topic].seq))]

    # -- rates and metrics -------------------------------------------------------------------------------------------

    def _rate(self, source: Source, event: ObservationRecorded, ref: EvidenceRef) -> None:
        rate, index = source.rate, source.index
        if rate.index != index:
            rate.close(index, ref, source.now)
        rate.count += 1
        record = self._state.records.get(source.rate_topic) if source.rate_topic else None
        if record is not None and (rate.hot or rate.count > rate.limit > 0):
            record.grow(ref, source.now, index)
            return
        if record is not None:
            record.active, source.rate_topic = False, ""
        elif rate.first is not None and rate.sustained() and not self._told(event.source, index):
            record = louder(source, rate.first, event, ref)
            self._keep(record, ref)
            source.rate_topic = record.topic

    def _told(self, name: str, index: int) -> bool:
        """Whether a burst of one template, begun lately, already tells why the source is louder."""
        return any(
            r.active and r.source == name and r.kind == "burst" and 0 <= index - r.mark <= LONG
            for r in self._state.records.values()
        )

    def _sensor(self, source: Source, event: ObservationRecorded, ref: EvidenceRef) -> bool:
        """Take in a line of the host sensor; False when it is none."""
        readings = sensors.readings(event.text)
        records = self._state.records
        for reading in readings:
            metric = source.metrics.get(reading.name)
            if metric is None:
                if len(source.metrics) >= MAX_METRICS:
                    continue
                metric = source.metrics[reading.name] = Metric()
            found = sensors.take(metric, reading, ref)
            if found is not None:
                metric.topic = topic_of("metric", event.source, "host", (reading.name,))
                records.pop(metric.topic, None)
                self._keep(sensors.begin(event, metric, reading, found), ref)
            elif metric.topic and (record := records.get(metric.topic)) is not None:
                if metric.run:
                    record.grow(ref, source.now, source.index)
                else:
                    record.active, metric.topic = False, ""
        return bool(readings)


def _by_seq(finding: Finding) -> int:
    return finding.seq
