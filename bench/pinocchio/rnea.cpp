// Pinocchio's side of the comparison, started by main.rs: `rnea MODEL`, MODEL being a text archive of Pinocchio's.
//
// Reads how many states there are, then q, qd and qdd of each. For every further line it computes the torques of all
// states and prints the nanoseconds that took; at the end of the input it prints the torques.
//
// Only headers are used, so that the recursion is compiled with this file's flags and not with the wheel's.

#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include <pinocchio/algorithm/rnea.hpp>
#include <pinocchio/serialization.hpp>

int main(int, char** argv) {
  pinocchio::Model model;
  model.loadFromText(argv[1]);
  pinocchio::Data data(model);

  int count = 0;
  std::cin >> count;
  auto read = [&] {
    Eigen::VectorXd values(model.nv);
    for (auto& value : values) std::cin >> value;
    return values;
  };
  struct State {
    Eigen::VectorXd q, qd, qdd;
  };
  std::vector<State> states;
  for (int i = 0; i < count; i++) {
    states.push_back({read(), read(), read()});
  }
  std::string line;
  std::getline(std::cin, line);

  std::vector<Eigen::VectorXd> torques(count, Eigen::VectorXd::Zero(model.nv));
  while (std::getline(std::cin, line)) {
    auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < count; i++) {
      torques[i] = pinocchio::rnea(model, data, states[i].q, states[i].qd, states[i].qdd);
    }
    std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - start;
    std::cout << spent.count() << std::endl;
  }
  for (const auto& tau : torques) {
    for (double value : tau) std::printf("%.17g ", value);
  }
}
