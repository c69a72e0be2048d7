"""
The node for a robot: joint states in, feed-forward torques out.

    ros2 launch metagd robot.launch.py params_file:=/home/me/arm.yaml checkpoint_save:=/home/me/arm.safetensors

An argument that is left empty leaves its parameter as params_file has it. The node configures and activates itself
(parameter autostart), so it needs no lifecycle manager here; with autostart:=false one can drive it, or
`ros2 lifecycle set /metagd configure` and `... activate`.
"""

import os

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = get_package_share_directory('metagd')
CONFIG = os.path.join(SHARE, 'config')
BOOL = ['', 'true', 'false']

# Launch argument: node parameter, how its text becomes a value, choices (None: free), description.
PATH, TEXT, YAML = os.path.expanduser, str, yaml.safe_load
PARAMETERS = {
    'urdf': ('urdf', PATH, None, "The arm's URDF file."),
    'robot_description': (
        'robot_description', TEXT, None,
        "The arm's URDF as text, for a launch file that has it in hand; used where no file is named. Without both, the "
        'node waits for the robot_description topic.'),
    'gravity': (
        'gravity', YAML, None, "Gravity in the frame of the arm's base, m/s^2, as '[0.0, 0.0, -9.81]'."),
    'joint_states': (
        'topics.joint_states', TEXT, None, "The topic of the robot's joint states (sensor_msgs/msg/JointState)."),
    'reference': (
        'topics.reference', TEXT, None,
        'The topic of the motion for which the torque is wanted (trajectory_msgs/msg/JointTrajectory).'),
    'autostart': (
        'autostart', YAML, BOOL,
        'Whether the node configures and activates itself; false leaves that to a lifecycle manager.'),
    'realtime': (
        'realtime', TEXT, ['', 'enforce', 'warn'],
        'Whether to refuse to start where priority, memory lock or CPU are not granted, or to say so and run on.'),
    'checkpoint_load': ('checkpoint.load', PATH, None, 'The checkpoint to start from.'),
    'checkpoint_reload': (
        'checkpoint.reload', TEXT, ['', 'all', 'memory', 'network', 'none'], 'What to take from that checkpoint.'),
    'checkpoint_save': (
        'checkpoint.save', PATH, None, 'Where to save the checkpoint, every minute and at a clean stop.'),
    'run_dir': ('run_dir', PATH, None, "A folder for the run's latency histograms and summary."),
    'use_sim_time': (
        'use_sim_time', YAML, BOOL, "Whether the time is that of /clock instead of the system's clock."),
}


def parameters(given):
    """What params_file says, and over it the arguments that are not empty."""
    params_file = os.path.abspath(os.path.expanduser(given['params_file']))
    if not os.path.isfile(params_file):
        raise RuntimeError(f'params_file: there is no file {params_file}')
    values = {
        parameter: value(given[argument])
        for argument, (parameter, value, _, _) in PARAMETERS.items() if given[argument]}
    if 'robot_description' in values:
        values.setdefault('urdf', '')
    # The packaged files name the packaged URDF by a path that is relative to the package.
    if os.path.dirname(params_file) == CONFIG:
        values.setdefault('urdf', os.path.join(SHARE, 'urdf', 'kuka_lwr.urdf'))
    return [params_file, values] if values else [params_file]


def node(context):
    names = [*PARAMETERS, 'params_file', 'name', 'namespace', 'log_level', 'respawn', 'respawn_delay', 'required']
    given = {name: LaunchConfiguration(name).perform(context).strip() for name in names}
    ends = given['required'] == 'true' and given['respawn'] == 'false'
    return [Node(
        package='metagd',
        executable='metagd',
        arguments=['node'],
        name=given['name'],
        namespace=given['namespace'],
        parameters=parameters(given),
        ros_arguments=['--log-level', given['log_level']],
        output='both',
        respawn=given['respawn'] == 'true',
        respawn_delay=float(given['respawn_delay']),
        on_exit=[Shutdown(reason='the node has ended')] if ends else None,
    )]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(
            'params_file', default_value=os.path.join(CONFIG, 'lwr.yaml'),
            description='The parameters (YAML): a section for the node, or /** for every node. `ros2 run metagd metagd '
            'params` prints all there are.'),
        DeclareLaunchArgument('name', default_value='metagd', description="The node's name."),
        DeclareLaunchArgument(
            'namespace', default_value='',
            description="The node's namespace; its topics follow, but those that begin with a slash."),
    ]
    for argument, (parameter, _, choices, description) in PARAMETERS.items():
        arguments.append(DeclareLaunchArgument(
            argument, default_value='', choices=choices,
            description=f'{description} [parameter {parameter}; empty: as params_file has it]'))
    arguments += [
        DeclareLaunchArgument(
            'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='How much is logged.'),
        DeclareLaunchArgument(
            'respawn', default_value='false', choices=['true', 'false'],
            description='Whether to start the node again when it ends by itself. It starts from checkpoint_load.'),
        DeclareLaunchArgument('respawn_delay', default_value='2.0', description='How long after its end, s.'),
        DeclareLaunchArgument(
            'required', default_value='false', choices=['true', 'false'],
            description='Whether the whole launch ends when the node does.'),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=node)])
