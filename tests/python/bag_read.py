"""Reads bags of metagd with rosbags and prints what is in them as JSON: bag_read.py BAG..."""

import json
import sys

from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

store = get_typestore(Stores.ROS2_HUMBLE)


def read(path):
    with Reader(path) as reader:
        topics = {}
        for connection in reader.connections:
            text, _ = store.generate_msgdef(connection.msgtype, ros_version=2)
            topics[connection.topic] = {
                "type": connection.msgtype,
                "count": connection.msgcount,
                "definition_matches": connection.msgdef.data == text,
                "hash": connection.digest,
                "hash_expected": store.hash_rihs01(connection.msgtype),
            }
        messages = []
        for connection, time, data in reader.messages():
            message = store.deserialize_cdr(data, connection.msgtype)
            if connection.msgtype == "sensor_msgs/msg/JointState":
                stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
                content = [stamp, message.name]
                content += [list(values) for values in (message.position, message.velocity, message.effort)]
            elif connection.msgtype == "std_msgs/msg/Float64MultiArray":
                content = list(message.data)
            elif connection.msgtype == "trajectory_msgs/msg/JointTrajectory":
                content = [message.joint_names, [list(point.positions) for point in message.points]]
            else:
                content = list(message.positions)
            messages.append([connection.topic, time, content])
        messages.sort(key=lambda message: message[1])
        return {
            "topics": topics,
            "messages": messages,
            "count": reader.message_count,
            "start": reader.start_time,
            "duration": reader.duration,
            "compression": [reader.compression_format, reader.compression_mode],
        }


print(json.dumps({path: read(path) for path in sys.argv[1:]}))
