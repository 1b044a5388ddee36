"""The tantivy side of `benchmarks.pool`; runs in the peers' environment: top-k ids by BM25 over the same texts and
queries."""

from __future__ import annotations

import re
import statistics
import time


def median_s(stop_words: frozenset[str], num: int, num_queries: int, num_candidates: int) -> float:
    import tantivy  # type: ignore[import-not-found]

    from benchmarks.pool_texts import texts

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw")
    builder.add_text_field("text", stored=False, tokenizer_name="words")
    index = tantivy.Index(builder.build())
    words = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase())
    if stop_words:
        words = words.filter(tantivy.Filter.custom_stopword(sorted(stop_words)))
    index.register_tokenizer("words", words.build())
    writer = index.writer()
    for number, text in enumerate(texts(num)):
        writer.add_document(tantivy.Document(id=str(number), text=text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher, times = index.searcher(), []
    for text in texts(num_queries, seed=1):
        begin = time.perf_counter()
        query = index.parse_query(" ".join(re.findall(r"\w+", text.lower())), ["text"])
        ids = [searcher.doc(address)["id"][0] for _, address in searcher.search(query, num_candidates).hits]
        times.append(time.perf_counter() - begin)
        assert len(ids) == num_candidates
    return statistics.median(times)


def run(num: int, num_queries: int, num_candidates: int) -> dict[str, float]:
    """Median seconds of a search, with all words and without those that our index leaves out."""
    from pipeline.text import STOP_WORDS

    sizes = (num, num_queries, num_candidates)
    return {"all_words_s": median_s(frozenset(), *sizes), "without_stop_words_s": median_s(STOP_WORDS, *sizes)}
