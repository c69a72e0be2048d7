"""Writes bags with rosbags, for metagd to read: bag_write.py FOLDER. Prints one name per line."""

import sys
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

JOINTS = ["elbow", "shoulder", "wrist"]
store = get_typestore(Stores.ROS2_HUMBLE)
Header = store.types["std_msgs/msg/Header"]
Time = store.types["builtin_interfaces/msg/Time"]
JointState = store.types["sensor_msgs/msg/JointState"]
String = store.types["std_msgs/msg/String"]


def state(index):
    order = [0, 1, 2] if index % 2 == 0 else [2, 0, 1]
    value = lambda offset: np.array([index * 0.25 + joint + offset for joint in order])
    return JointState(
        header=Header(stamp=Time(sec=100, nanosec=index * 1_000_000), frame_id="base"),
        name=[JOINTS[joint] for joint in order],
        position=value(0.0),
        velocity=value(100.0),
        effort=value(200.0),
    )


def write(path, version, plugin, mode):
    writer = Writer(path, version=version, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        states = writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=store)
        chatter = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        for index in range(60):
            time = 1_000_000_000_000 + index * 1_000_000
            writer.write(chatter, time, store.serialize_cdr(String(data=f"hello {index}"), String.__msgtype__))
            writer.write(states, time + 500, store.serialize_cdr(state(index), JointState.__msgtype__))


for plugin in StoragePlugin:
    for mode in CompressionMode:
        if plugin == StoragePlugin.SQLITE3 and mode == CompressionMode.STORAGE:
            continue
        for version in (8, 9):
            name = f"{plugin.name}_{mode.name}_v{version}".lower()
            write(Path(sys.argv[1]) / name, version, plugin, mode)
            print(name)
