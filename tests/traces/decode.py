"""Decodes traces by the published schema: a request of OTLP, as JSON, on each line of stdin.

Fails for a field that the schema does not know. Checks that spans nest, and prints the names of the
spans of each trace.
"""

import base64
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

for line in sys.stdin:
    request = json.loads(line)
    # In OTLP's JSON ids are hexadecimal; the mapping of protobuf takes base64.
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in {"traceId", "spanId", "parentSpanId"} & span.keys():
                    span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    decoded = json_format.ParseDict(request, ExportTraceServiceRequest())
    (resource,) = decoded.resource_spans
    (scope,) = resource.scope_spans
    spans = {span.span_id: span for span in scope.spans}
    assert len(spans) == len(scope.spans), "span ids are not unique"
    assert len({span.trace_id for span in scope.spans}) == 1, "several traces"
    roots = [span for span in scope.spans if not span.parent_span_id]
    assert len(roots) == 1, [span.name for span in roots]
    for span in scope.spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano, span.name
        if span.parent_span_id:
            parent = spans[span.parent_span_id]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano, span.name
            assert span.end_time_unix_nano <= parent.end_time_unix_nano, span.name
    attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
    names = " | ".join(span.name for span in scope.spans)
    print(f"{attributes['juju_unit']}: {names}")
