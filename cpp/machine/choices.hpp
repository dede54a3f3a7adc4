// What levels and units have in common: a table of choices, best first, which are told and found by their names.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace fastlenet {

template <typename Table>
struct Choice {
  const Table* table;
  bool (*has)();             // whether this CPU has its instructions; asks the kernel for nothing
  std::string (*refusal)();  // why it cannot be used here, in one line, or ""; may ask the kernel
  int level = 0;             // of a unit: the least x86-64-v to whose instructions its own belong
};

inline bool on_every_cpu() { return true; }
inline std::string never_refused() { return ""; }

inline std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

template <typename Table, std::size_t count>
std::vector<std::string> names_built(const Choice<Table> (&choices)[count]) {
  std::vector<std::string> names;
  for (const Choice<Table>& choice : choices) names.push_back(choice.table->name);
  return names;
}

template <typename Table, std::size_t count>
std::vector<std::string> names_available(const Choice<Table> (&choices)[count]) {
  std::vector<std::string> names;
  for (const Choice<Table>& choice : choices) {
    if (choice.has()) names.push_back(choice.table->name);
  }
  return names;
}

// kind: what a choice is, for the std::invalid_argument that is thrown if there is none of that name. It is also thrown if the
// choice is refused.
template <typename Table, std::size_t count>
const Table& choice_named(const Choice<Table> (&choices)[count], const std::string& kind, const std::string& name) {
  for (const Choice<Table>& choice : choices) {
    if (name != choice.table->name) continue;
    const std::string refusal = choice.refusal();
    if (refusal.empty()) return *choice.table;
    throw std::invalid_argument(name + " cannot be used: " + refusal +
                                "; available on this CPU: " + join(names_available(choices)));
  }
  throw std::invalid_argument("unknown " + kind + " '" + name + "'; built: " + join(names_built(choices)) +
                              "; available on this CPU: " + join(names_available(choices)));
}

// The choice that the environment's variable names, or null if it is not set. Errors begin with the variable's name.
template <typename Table, std::size_t count>
const Table* choice_of_variable(const Choice<Table> (&choices)[count], const std::string& kind, const char* variable) {
  const char* name = std::getenv(variable);
  if (name == nullptr || *name == '\0') return nullptr;
  try {
    return &choice_named(choices, kind, name);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string(variable) + ": " + error.what());
  }
}

}  // namespace fastlenet
