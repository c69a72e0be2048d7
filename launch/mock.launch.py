"""
The simulated arm and the node that learns it, in one launch: no robot needed.

    ros2 launch metagd mock.launch.py task:=rectangle-vertical payload:=heavy seconds:=120

The simulator (`metagd simulate --live`) publishes joint states and references at 1 kHz and adds the torques that the
node sends. It ends after `seconds` and prints how well it tracked; the launch ends with it.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = get_package_share_directory('metagd')

# Gravity in the frame of the arm's base, as the node must know it.
GRAVITY = {'floor': '[0.0, 0.0, -9.81]', 'wall': '[9.81, 0.0, 0.0]', 'sideways': '[0.0, -9.81, 0.0]'}


def gravity(context):
    given = context.launch_configurations
    given['gravity'] = given['gravity'] or GRAVITY[given['mounting']]


def simulator(context):
    """The stand-in for the robot; called once the arguments of both are known."""
    def given(name):
        return LaunchConfiguration(name).perform(context).strip()

    namespace = '/' + given('namespace').strip('/')
    here = namespace.rstrip('/') + '/'

    def full(topic):
        return topic if topic.startswith('/') else here + topic

    arguments = ['simulate', '--live', '--node', here + given('name')]
    arguments += ['--joint-states', full(given('joint_states') or 'joint_states')]
    if given('reference'):
        arguments += ['--reference', full(given('reference'))]
    if given('urdf'):
        arguments += ['--urdf', given('urdf')]
    for option in ['script', 'seconds', 'mounting', 'seed']:
        arguments += [f'--{option}', given(option)]
    if given('script') == 'trials':
        arguments += ['--task', given('task'), '--payload', given('payload'), '--feedforward', given('feedforward')]
    return [Node(
        package='metagd',
        executable='metagd',
        arguments=arguments,
        name='lwr_simulator',
        namespace=namespace,
        exec_name='simulator',
        output='both',
        on_exit=[Shutdown(reason='the simulation has ended')],
    )]


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument(
            'params_file', default_value=os.path.join(SHARE, 'config', 'mock.yaml'),
            description='The parameters of the node (YAML).'),
        DeclareLaunchArgument(
            'script', default_value='trials', choices=['trials', 'demo'],
            description='`trials` repeats one task; `demo` lifts with payload none, light, heavy in turn, and with the '
            "feed-forward of the node, none, and the rigid body's (task, payload, feedforward do not count then)."),
        DeclareLaunchArgument(
            'task', default_value='lift', choices=['lift', 'rectangle-horizontal', 'rectangle-vertical'],
            description='The motion that is repeated.'),
        DeclareLaunchArgument(
            'payload', default_value='none', choices=['none', 'light', 'heavy'],
            description='What the flange carries, unknown to the node: nothing, 1 kg or 3 kg.'),
        DeclareLaunchArgument(
            'feedforward', default_value='node', choices=['node', 'rigid-body', 'off'],
            description="Whose torques the simulated controller adds: the node's, the nominal rigid body's or none."),
        DeclareLaunchArgument(
            'mounting', default_value='floor', choices=list(GRAVITY), description="How the arm's base stands."),
        DeclareLaunchArgument(
            'gravity', default_value='',
            description="Gravity in the frame of the arm's base as the node knows it, m/s^2 [empty: that of mounting]"),
        DeclareLaunchArgument(
            'seconds', default_value='60',
            description='How long the simulation runs, s, up to 3600; trials that do not fit are left out.'),
        DeclareLaunchArgument(
            'seed', default_value='1', description="Seed of the arm's true parameters, its noise and the trials."),
        DeclareLaunchArgument(
            'required', default_value='true', choices=['true', 'false'],
            description='Whether the whole launch ends when the node does.'),
        OpaqueFunction(function=gravity),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(os.path.join(SHARE, 'launch', 'robot.launch.py'))),
        OpaqueFunction(function=simulator),
    ])
