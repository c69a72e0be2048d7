"""A foreign DDS peer (Cyclone DDS) with ROS 2's wire names, driven line by line.

    dds_peer.py DOMAIN

Each line of standard input is a JSON object and gets one JSON object as its answer on standard output. Names of topics
and services are ROS names (`/joint_states`); one without a leading slash is taken as DDS has it (`ros_discovery_info`).

    {"do": "subscribe", "topic": T, "type": M, "qos": Q, "readers": N}    N readers (default 1)
    {"do": "take", "topic": T, "newest": N}          -> {"count": C, "messages": [...]}: of the first reader, since the last
    {"do": "newest", "topic": T}                     -> {"messages": [...]}: what each reader that has anything got last
    {"do": "advertise", "topic": T, "type": M, "qos": Q}
    {"do": "publish", "topic": T, "message": {...}}
    {"do": "publish", "topic": T, "message": {...}, "rate": HZ}           goes on; `header.stamp` is the time of sending
    {"do": "hush", "topic": T}                       -> {"sent": N}: ends that
    {"do": "matched", "topic": T}                    -> {"readers": N, "writers": M}: who is there on the other side
    {"do": "call", "service": S, "type": V, "request": {...}, "timeout": S}    -> {"response": {...} or null}

A service's messages start as rmw_cyclonedds has it: 8 bytes of the client's identity, 8 of the sequence number.
It ends when its standard input is closed.
"""

import dataclasses
import json
import math
import re
import sys
import threading
import time

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl.annotations import final
from cyclonedds.idl import types as idl
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

RESULT = "bool success, string message"
NAMES = "string[] names"
TRANSITIONS = "TransitionDescription[] available_transitions"
MESSAGES = {
    "builtin_interfaces": {"Time": "int32 sec, uint32 nanosec"},
    "std_msgs": {
        "Header": "builtin_interfaces/Time stamp, string frame_id",
        "String": "string data",
        "MultiArrayDimension": "string label, uint32 size, uint32 stride",
        "MultiArrayLayout": "MultiArrayDimension[] dim, uint32 data_offset",
        "Float64MultiArray": "MultiArrayLayout layout, float64[] data",
    },
    "sensor_msgs": {
        "JointState": "std_msgs/Header header, string[] name, float64[] position, float64[] velocity, float64[] effort",
    },
    "rcl_interfaces": {
        "ParameterValue": "uint8 type, bool bool_value, int64 integer_value, float64 double_value, string string_value,"
        "uint8[] byte_array_value, bool[] bool_array_value, int64[] integer_array_value, float64[] double_array_value,"
        "string[] string_array_value",
        "Parameter": "string name, ParameterValue value",
        "ParameterEvent": "builtin_interfaces/Time stamp, string node, Parameter[] new_parameters,"
        "Parameter[] changed_parameters, Parameter[] deleted_parameters",
        "FloatingPointRange": "float64 from_value, float64 to_value, float64 step",
        "IntegerRange": "int64 from_value, int64 to_value, uint64 step",
        "ParameterDescriptor": "string name, uint8 type, string description, string additional_constraints,"
        "bool read_only, bool dynamic_typing, FloatingPointRange[] floating_point_range, IntegerRange[] integer_range",
        "ListParametersResult": "string[] names, string[] prefixes",
        "SetParametersResult": "bool successful, string reason",
        "Log": "builtin_interfaces/Time stamp, uint8 level, string name, string msg, string file, string function,"
        "uint32 line",
    },
    "lifecycle_msgs": {
        "State": "uint8 id, string label",
        "Transition": "uint8 id, string label",
        "TransitionDescription": "Transition transition, State start_state, State goal_state",
        "TransitionEvent": "uint64 timestamp, Transition transition, State start_state, State goal_state",
    },
    "diagnostic_msgs": {
        "KeyValue": "string key, string value",
        "DiagnosticStatus": "uint8 level, string name, string message, string hardware_id, KeyValue[] values",
        "DiagnosticArray": "std_msgs/Header header, DiagnosticStatus[] status",
    },
    "rmw_dds_common": {
        "Gid": "uint8[16] data",
        "NodeEntitiesInfo": "string node_namespace, string node_name, Gid[] reader_gid_seq, Gid[] writer_gid_seq",
        "ParticipantEntitiesInfo": "Gid gid, NodeEntitiesInfo[] node_entities_info_seq",
    },
}
EMPTY = "uint8 structure_needs_at_least_one_member"
SERVICES = {
    "std_srvs": {"Trigger": (EMPTY, RESULT), "SetBool": ("bool data", RESULT)},
    "rcl_interfaces": {
        "ListParameters": ("string[] prefixes, uint64 depth", "ListParametersResult result"),
        "GetParameters": (NAMES, "ParameterValue[] values"),
        "GetParameterTypes": (NAMES, "uint8[] types"),
        "DescribeParameters": (NAMES, "ParameterDescriptor[] descriptors"),
        "SetParameters": ("Parameter[] parameters", "SetParametersResult[] results"),
        "SetParametersAtomically": ("Parameter[] parameters", "SetParametersResult result"),
    },
    "lifecycle_msgs": {
        "GetState": (EMPTY, "State current_state"),
        "ChangeState": ("Transition transition", "bool success"),
        "GetAvailableStates": (EMPTY, "State[] available_states"),
        "GetAvailableTransitions": (EMPTY, TRANSITIONS),
    },
}
HEADER = "uint64 client, int64 sequence,"
ZERO = {"bool": False, "string": "", "float64": 0.0}
STRUCTS = {}


def matches(ask):
    """Who is matched. The binding counts first and fetches then: who comes in between makes it stumble."""
    while True:
        try:
            return ask()
        except IndexError:
            pass


class Struct:
    """A type for the wire, and what makes its values of JSON objects that need not name every field."""

    def __init__(self, package, folder, name, definition):
        self.fields = [(n, *field_type(package, t)) for t, n in (f.split() for f in definition.split(",") if f.strip())]
        annotations = {name: annotation for name, annotation, _ in self.fields}
        self.idl = final(make_idl_struct(name, f"{package}::{folder}::dds_::{name}_", annotations))

    def value(self, given):
        unknown = set(given) - {name for name, _, _ in self.fields}
        if unknown:
            raise KeyError(f"{self.idl.__name__} has no {', '.join(unknown)}")
        return self.idl(**{name: make(given[name]) if name in given else make() for name, _, make in self.fields})


def field_type(package, text):
    """The annotation and the maker of a field's values."""
    element, array, length = re.fullmatch(r"([\w/]+?)(\[(\d*)\])?", text).groups()
    if element in ZERO or re.fullmatch(r"u?int\d+", element):
        annotation = {"string": str, "bool": bool}.get(element) or getattr(idl, element)
        zero = ZERO.get(element, 0)
        make = lambda given=zero: given
    else:
        struct = message(element if "/" in element else f"{package}/{element}")
        annotation, make = struct.idl, lambda given={}: struct.value(given)
    if not array:
        return annotation, make
    if length:
        return idl.array[annotation, int(length)], lambda given=(): list(given)
    return idl.sequence[annotation], lambda given=(): [make(item) for item in given]


def message(name):
    """The type of `package/Name` or `package/msg/Name`."""
    package, _, short = name.replace("/msg/", "/").partition("/")
    if name not in STRUCTS:
        STRUCTS[name] = Struct(package, "msg", short, MESSAGES[package][short])
    return STRUCTS[name]


def service(name):
    """The types of request and response of `package/srv/Name`."""
    if name not in STRUCTS:
        package, _, short = name.split("/")
        both = zip(("Request", "Response"), SERVICES[package][short])
        STRUCTS[name] = [Struct(package, "srv", f"{short}_{part}", HEADER + fields) for part, fields in both]
    return STRUCTS[name]


def quality(name):
    best_effort, reliable = Policy.Reliability.BestEffort, Policy.Reliability.Reliable(duration(seconds=1))
    latched = Policy.Durability.TransientLocal
    policies = {
        "sensor_data": [best_effort, Policy.History.KeepLast(64)],
        "reliable": [reliable, Policy.History.KeepLast(1000)],
        "command": [reliable, Policy.History.KeepLast(1)],
        "latched": [reliable, latched, Policy.History.KeepLast(1)],
        "rosout": [reliable, latched, Policy.History.KeepLast(1000)],
    }
    return Qos(*policies[name], Policy.DataRepresentation(use_cdrv0_representation=True))


def plain(value):
    """As JSON has it, which knows no NaN."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    return value if isinstance(value, (str, int)) else [plain(item) for item in value]


class Peer:
    def __init__(self, domain):
        self.participant = DomainParticipant(domain)
        self.readers, self.writers, self.clients, self.loops, self.topics = {}, {}, {}, {}, {}

    def topic(self, name, struct, prefix="rt"):
        wire = prefix + name if name.startswith("/") else name
        if wire not in self.topics:
            self.topics[wire] = Topic(self.participant, wire, struct.idl)
        return self.topics[wire]

    def subscribe(self, topic, type, qos="reliable", readers=1):
        wire, qos = self.topic(topic, message(type)), quality(qos)
        self.readers[topic] = [DataReader(self.participant, wire, qos=qos) for _ in range(readers)]

    def samples(self, reader):
        return [plain(sample) for sample in reader.take(N=100_000) if isinstance(sample, IdlStruct)]

    def take(self, topic, newest=1):
        samples = self.samples(self.readers[topic][0])
        return {"count": len(samples), "messages": samples[-newest:]}

    def newest(self, topic):
        return {"messages": [s[-1] for s in map(self.samples, self.readers[topic]) if s]}

    def advertise(self, topic, type, qos="reliable"):
        struct = message(type)
        self.writers[topic] = struct, DataWriter(self.participant, self.topic(topic, struct), qos=quality(qos))

    def publish(self, topic, message, rate=0):
        struct, writer = self.writers[topic]
        value = struct.value(message)
        if not rate:
            return writer.write(value)
        ended, sent = threading.Event(), [0]

        def loop():
            began = time.monotonic()
            while not ended.wait(max(0.0, began + sent[0] / rate - time.monotonic())):
                value.header.stamp.sec, value.header.stamp.nanosec = divmod(time.time_ns(), 1_000_000_000)
                writer.write(value)
                sent[0] += 1

        thread = threading.Thread(target=loop, daemon=True)
        self.loops[topic] = thread, ended, sent
        thread.start()

    def hush(self, topic):
        thread, ended, sent = self.loops.pop(topic)
        ended.set()
        thread.join()
        return {"sent": sent[0]}

    def matched(self, topic):
        writer = self.writers.get(topic)
        readers = self.readers.get(topic)
        return {
            "readers": len(matches(writer[1].get_matched_subscriptions)) if writer else 0,
            "writers": len(matches(readers[0].get_matched_publications)) if readers else 0,
        }

    def call(self, service, type, request=None, timeout=20.0):
        until = time.monotonic() + timeout
        if service not in self.clients:
            asked, answered = globals()["service"](type)
            self.clients[service] = (
                asked,
                DataWriter(self.participant, self.topic(service + "Request", asked, "rq"), qos=quality("reliable")),
                DataReader(self.participant, self.topic(service + "Reply", answered, "rr"), qos=quality("reliable")),
            )
        asked, writer, reader = self.clients[service]
        while not (matches(writer.get_matched_subscriptions) and matches(reader.get_matched_publications)):
            if time.monotonic() > until:
                return {"response": None}
            time.sleep(0.001)
        identity, number = id(self) & 0xFFFF_FFFF, time.monotonic_ns()
        writer.write(asked.value({"client": identity, "sequence": number, **(request or {})}))
        while time.monotonic() < until:
            for answer in self.samples(reader):
                if (answer.pop("client"), answer.pop("sequence")) == (identity, number):
                    return {"response": answer}
            time.sleep(0.002)
        return {"response": None}


def main():
    peer = Peer(int(sys.argv[1]))
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(peer, command.pop("do"))(**command)
        print(json.dumps(answer or {}), flush=True)


main()
