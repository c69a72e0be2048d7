"""Answers, with Pinocchio, what tests/dynamics_pinocchio.rs asks: JSON in, JSON out."""

import json
import sys

import numpy as np
import pinocchio as pin


def main():
    ask = json.load(sys.stdin)
    model = pin.buildModelFromXML(ask["urdf"])
    assert list(model.names)[1:] == ask["joints"], list(model.names)
    model.gravity.linear = np.array(ask["gravity"])
    flange = model.frames[model.getFrameId(ask["flange"])]
    payload = pin.Inertia(ask["payload"]["mass"], np.array(ask["payload"]["com"]), np.zeros((3, 3)))
    model.inertias[flange.parentJoint] = model.inertias[flange.parentJoint] + flange.placement.act(payload)
    data = model.createData()
    answers = []
    for state in ask["states"]:
        # A continuous joint is a cosine and a sine to Pinocchio.
        q = pin.integrate(model, pin.neutral(model), np.array(state["q"]))
        qd, qdd, tau = (np.array(state[key]) for key in ("qd", "qdd", "tau"))
        torques = pin.rnea(model, data, q, qd, qdd).tolist()
        mass = pin.crba(model, data, q)
        mass = (np.triu(mass) + np.triu(mass, 1).T).tolist()
        accelerations = pin.aba(model, data, q, qd, tau).tolist()
        regressor = np.array(pin.computeJointTorqueRegressor(model, data, q, qd, qdd)).tolist()
        energy = pin.computeKineticEnergy(model, data, q, qd) + pin.computePotentialEnergy(model, data, q)
        pin.framesForwardKinematics(model, data, q)
        place = data.oMf[model.getFrameId(ask["flange"])].translation.tolist()
        answers.append(
            {
                "inverse": torques,
                "mass": mass,
                "forward": accelerations,
                "regressor": regressor,
                "energy": energy,
                "flange": place,
            }
        )
    json.dump(answers, sys.stdout)


main()
