"""The tantivy side of `benchmarks.pool`; runs in the peers' environment: top-k ids by BM25 over the same texts and queries."""

from __future__ import annotations

import json
import re
import statistics
import sys
import time


def main() -> int:
    import tantivy  # type: ignore[import-not-found]

    from benchmarks.pool_texts import texts

    num, num_queries, num_candidates = map(int, sys.argv[1:])
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw")
    builder.add_text_field("text", stored=False)
    index = tantivy.Index(builder.build())
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
    print(json.dumps({"median_s": statistics.median(times)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
