"""A foreign DDS peer (Cyclone DDS) with ROS 2's wire names.

It answers every sensor_msgs/JointState on rt/joint_states with one on rt/echo: the same stamp, the joints in reverse
order, and the positions doubled. It prints each ROS node that announces itself, as `/name readers writers`, and ends
when its standard input is closed.
"""

import select
import sys
from dataclasses import dataclass

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import final
from cyclonedds.idl.types import array, bounded_str, float64, int32, sequence, uint8, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration


@dataclass
@final
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@dataclass
@final
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@dataclass
@final
class JointState(IdlStruct, typename="sensor_msgs::msg::dds_::JointState_"):
    header: Header
    name: sequence[str]
    position: sequence[float64]
    velocity: sequence[float64]
    effort: sequence[float64]


@dataclass
@final
class Gid(IdlStruct, typename="rmw_dds_common::msg::dds_::Gid_"):
    data: array[uint8, 16]


@dataclass
@final
class NodeEntities(IdlStruct, typename="rmw_dds_common::msg::dds_::NodeEntitiesInfo_"):
    node_namespace: bounded_str[256]
    node_name: bounded_str[256]
    reader_gid_seq: sequence[Gid]
    writer_gid_seq: sequence[Gid]


@dataclass
@final
class ParticipantEntities(IdlStruct, typename="rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_"):
    gid: Gid
    node_entities_info_seq: sequence[NodeEntities]


def main() -> None:
    domain = DomainParticipant(int(sys.argv[1]))
    cdr = Policy.DataRepresentation(use_cdrv0_representation=True)
    best_effort = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(64), cdr)
    reliable = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepLast(1), cdr)
    reader = DataReader(domain, Topic(domain, "rt/joint_states", JointState), qos=best_effort)
    writer = DataWriter(domain, Topic(domain, "rt/echo", JointState), qos=reliable)
    latched = Qos(
        Policy.Reliability.Reliable(duration(seconds=1)),
        Policy.Durability.TransientLocal,
        Policy.History.KeepLast(1),
        cdr,
    )
    graph = DataReader(domain, Topic(domain, "ros_discovery_info", ParticipantEntities), qos=latched)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        for participant in graph.take(N=16):
            if not isinstance(participant, ParticipantEntities):
                continue
            for node in participant.node_entities_info_seq:
                name = node.node_namespace.rstrip("/") + "/" + node.node_name
                print(name, len(node.reader_gid_seq), len(node.writer_gid_seq), flush=True)
        for heard in reader.take(N=64):
            if not isinstance(heard, JointState):
                continue
            writer.write(
                JointState(
                    header=heard.header,
                    name=heard.name[::-1],
                    position=[2.0 * q for q in heard.position[::-1]],
                    velocity=heard.velocity[::-1],
                    effort=heard.effort[::-1],
                )
            )


main()
