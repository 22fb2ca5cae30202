#!/usr/bin/env python3
"""Calls a node as a stranger would: knows nothing but its address, learns the API by gRPC reflection.

    python3 -m pip install grpcio grpcio-reflection grpcio-status
    python3 scripts/foreign_client.py 127.0.0.1:7400 strong

Prints one JSON object: the services listed, what a put, a get and a compare-and-set answered, and the health.
"""

import json
import sys
import time

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status


class Stranger:
    def __init__(self, endpoint):
        self.channel = grpc.insecure_channel(endpoint)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def services(self):
        return sorted(self.database.get_services())

    def call(self, service, method, request):
        descriptor = self.pool.FindServiceByName(service).FindMethodByName(method)
        request_class = message_factory.GetMessageClass(descriptor.input_type)
        answer_class = message_factory.GetMessageClass(descriptor.output_type)
        unary = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=answer_class.FromString,
        )
        message = json_format.ParseDict(request, request_class())
        try:
            return {"ok": json_format.MessageToDict(unary(message, timeout=5))}
        except grpc.RpcError as error:
            return {"error": describe(error)}


def describe(error):
    told = {"code": error.code().name, "message": error.details()}
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            told |= {"reason": info.reason, "domain": info.domain, "metadata": dict(info.metadata)}
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            told["retry_delay"] = retry.retry_delay.ToJsonString()
        else:
            told.setdefault("other_details", []).append(detail.type_url)
    return told


def health(stranger, patience_s=20):
    """The node's health, once it serves: on a busy machine an election may just be under way."""
    until = time.monotonic() + patience_s
    while True:
        told = stranger.call("grpc.health.v1.Health", "Check", {"service": ""})
        if told.get("ok", {}).get("status") == "SERVING" or time.monotonic() > until:
            return told
        time.sleep(0.1)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    stranger = Stranger(sys.argv[1])
    state = "quorumor.v1.StateService"
    header = {"mode": f"MODE_{sys.argv[2].upper()}"}
    value = "aGVsbG8="  # "hello"
    swap = {"header": header, "key": "stranger", "expected": {"value": value}, "value": "Ynll"}
    print(
        json.dumps(
            {
                "services": stranger.services(),
                "put": stranger.call(state, "Put", {"header": header, "key": "stranger", "value": value}),
                "get": stranger.call(state, "Get", {"header": header, "key": "stranger"}),
                "compare_and_set": stranger.call(state, "CompareAndSet", swap),
                "bad_key": stranger.call(state, "Get", {"header": header, "key": ""}),
                "health": health(stranger),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
