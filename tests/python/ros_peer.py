"""A foreign DDS peer (Cyclone DDS) with ROS 2's wire names.

It answers every sensor_msgs/JointState on rt/joint_states with one on rt/echo: the same stamp, the joints in reverse
order, and the positions doubled. It ends when its standard input is closed.
"""

import select
import sys
from dataclasses import dataclass

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import final
from cyclonedds.idl.types import float64, int32, sequence, uint32
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


def main() -> None:
    domain = DomainParticipant(int(sys.argv[1]))
    cdr = Policy.DataRepresentation(use_cdrv0_representation=True)
    best_effort = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(64), cdr)
    reliable = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepLast(1), cdr)
    reader = DataReader(domain, Topic(domain, "rt/joint_states", JointState), qos=best_effort)
    writer = DataWriter(domain, Topic(domain, "rt/echo", JointState), qos=reliable)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
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
