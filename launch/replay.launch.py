"""
A recorded bag as the robot: its joint states (and references) are played, the node learns from them.

    ros2 launch metagd replay.launch.py bag:=lift_bag rate:=2.0

Only `topics` are played, so that torques which the bag may hold are never sent out again. The launch ends when the bag
does. (To score a learner on recordings, `metagd replay` is faster, exact and needs no ROS.)
"""

import os
import shlex

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = get_package_share_directory('metagd')


def use_sim_time(context):
    given = context.launch_configurations
    if given['player'] == 'ros2' and given['clock'] != 'off':
        given['use_sim_time'] = given['use_sim_time'] or 'true'


def player(context):
    def given(name):
        return LaunchConfiguration(name).perform(context).strip()

    topics = given('topics').split()
    loop = ['--loop'] if given('loop') == 'true' else []
    extra = shlex.split(given('play_args'))
    ended = [Shutdown(reason='the bag has been played')]
    if given('player') == 'ros2':
        clock = given('clock')
        rate = {'topics': ['--clock-topics', *topics], 'off': []}.get(clock, ['--clock', clock])
        return [ExecuteProcess(
            cmd=[
                'ros2', 'bag', 'play', given('bag'), '--rate', given('rate'), '--start-offset', given('start_offset'),
                '--delay', given('delay'), '--qos-profile-overrides-path', given('qos_overrides'), *rate, *loop,
                '--disable-keyboard-controls', *extra, '--topics', *topics],
            name='player', output='both', on_exit=ended)]
    arguments = ['play', given('bag'), '--best-effort']
    arguments += ['--rate', given('rate'), '--start-offset', given('start_offset')]
    for topic in topics:
        arguments += ['--topic', topic]
    return [Node(
        package='metagd', executable='metagd', arguments=[*arguments, *loop, *extra], name='metagd_player',
        exec_name='player', output='both', on_exit=ended)]


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='The bag: a folder, or one file of it.'),
        DeclareLaunchArgument(
            'player', default_value='ros2', choices=['ros2', 'metagd'],
            description='Who plays it: `ros2 bag play`, with a clock; or `metagd play`, which needs no rosbag2, reads '
            'bags that were cut off (play_args:=--salvage) and has no clock.'),
        DeclareLaunchArgument(
            'topics', default_value='/joint_states /metagd/reference',
            description='What is played, spaces between. Name what the bag has: `metagd play` refuses others, '
            '`ros2 bag play` passes over them.'),
        DeclareLaunchArgument('rate', default_value='1.0', description='How much faster than recorded.'),
        DeclareLaunchArgument('start_offset', default_value='0.0', description='Begin this many seconds into the bag.'),
        DeclareLaunchArgument(
            'loop', default_value='false', choices=['true', 'false'], description='Over and over.'),
        DeclareLaunchArgument(
            'delay', default_value='3.0',
            description='How long `ros2 bag play` waits for the node to be ready, s (`metagd play` sees when it is).'),
        DeclareLaunchArgument(
            'clock', default_value='100.0',
            description='How `ros2 bag play` publishes /clock: at so many Hz, or with every message (`topics`), or not '
            'at all (`off`).'),
        DeclareLaunchArgument(
            'qos_overrides', default_value=os.path.join(SHARE, 'launch', 'replay_qos.yaml'),
            description='The quality of service with which `ros2 bag play` publishes (YAML, topic by topic).'),
        DeclareLaunchArgument(
            'play_args', default_value='', description='Further arguments for the player, as on its command line.'),
        DeclareLaunchArgument(
            'params_file', default_value=os.path.join(SHARE, 'config', 'replay.yaml'),
            description='The parameters of the node (YAML).'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='', choices=['', 'true', 'false'],
            description="Whether the node's time is that of /clock [empty: where the player publishes it]"),
        DeclareLaunchArgument(
            'required', default_value='true', choices=['true', 'false'],
            description='Whether the whole launch ends when the node does.'),
        OpaqueFunction(function=use_sim_time),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(os.path.join(SHARE, 'launch', 'robot.launch.py'))),
        OpaqueFunction(function=player),
    ])
