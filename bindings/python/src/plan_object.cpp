#include "plan_object.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "docs.h"

namespace halfway::python {
namespace {

namespace py = pybind11;

py::tuple reasons_of(const Plan& plan) {
  py::tuple result(plan.reasons.size());
  for (std::size_t i = 0; i < plan.reasons.size(); ++i) {
    result[i] = py::str(std::string(to_string(plan.reasons[i])));
  }
  return result;
}

py::tuple tuple_of(const std::vector<std::int64_t>& shape) {
  py::tuple result(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) {
    result[i] = py::int_(shape[i]);
  }
  return result;
}
py::tuple shape_of(const Plan& plan) { return tuple_of(plan.shape); }
py::tuple result_shape_of(const Plan& plan) { return tuple_of(plan.result_shape); }

py::dict dict_of(const Step& step) {
  py::dict result;
  result["kind"] = std::string(to_string(step.kind));
  result["source"] = to_string(step.from);
  result["dtype"] = to_string(step.to);
  result["bytes_read"] = step.bytes_read;
  result["bytes_written"] = step.bytes_written;
  result["how"] = step.how;
  return result;
}

py::dict dict_of(const Plan& plan) {
  py::list steps;
  for (const Step& step : plan.steps) {
    steps.append(dict_of(step));
  }
  py::dict result;
  result["target"] = std::string(plan.target);
  result["source"] = to_string(plan.from);
  result["dtype"] = to_string(plan.to);
  result["shape"] = py::list(shape_of(plan));
  result["result_shape"] = py::list(result_shape_of(plan));
  result["zero_copy"] = plan.zero_copy;
  result["reasons"] = py::list(reasons_of(plan));
  result["steps"] = steps;
  result["bytes_read"] = plan.bytes_read;
  result["bytes_written"] = plan.bytes_written;
  result["bytes_wire"] = plan.bytes_wire;
  result["device"] = to_string(plan.device);
  result["because"] = plan.because;
  result["machine"] = plan.machine;
  result["unavailable"] = plan.unavailable;
  return result;
}

}  // namespace

PyObject* plan_object(const Plan& plan) {
  try {
    return py::cast(plan).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
    throw PythonError{};
  }
}

void init_plan(PyObject* module_object) {
  auto module = py::reinterpret_borrow<py::module_>(module_object);
  py::class_<Step> step(module, "Step", docs::step);
  step.def_property_readonly(
          "kind", [](const Step& s) { return std::string(to_string(s.kind)); },
          "'alias', 'resolve', 'copy', 'cast' or 'ship'.")
      .def_property_readonly(
          "source", [](const Step& s) { return to_string(s.from); }, "Name of the dtype read.")
      .def_property_readonly(
          "dtype", [](const Step& s) { return to_string(s.to); }, "Name of the dtype written.")
      .def_readonly("bytes_read", &Step::bytes_read, "Bytes read.")
      .def_readonly("bytes_written", &Step::bytes_written, "Bytes written.")
      .def_readonly("how", &Step::how, "What else happens in it: permuted axes, scale and shift, stochastic rounding.")
      .def(
          "to_dict", [](const Step& s) { return dict_of(s); }, "The step as a JSON-serialisable dict.")
      .def("__repr__", [](const Step& s) {
        return "Step(" + std::string(to_string(s.kind)) + ", " + to_string(s.from) + " -> " + to_string(s.to) + ")";
      });
  py::class_<Plan> plan(module, "Plan", docs::plan);
  plan.def_property_readonly(
          "zero_copy", [](const Plan& p) { return p.zero_copy; }, "Whether the result is the source's memory.")
      .def_property_readonly("reasons", reasons_of, "Why not, as a tuple of words; empty when it is.")
      .def_property_readonly(
          "steps", [](const Plan& p) { return py::tuple(py::cast(p.steps)); }, "What will be done, in order.")
      .def_property_readonly(
          "source", [](const Plan& p) { return to_string(p.from); }, "Name of the source's dtype.")
      .def_property_readonly(
          "dtype", [](const Plan& p) { return to_string(p.to); }, "Name of the result's dtype.")
      .def_property_readonly("shape", shape_of, "Shape of the source.")
      .def_property_readonly("result_shape", result_shape_of, "Shape of the result: permuted, if the axes are.")
      .def_property_readonly(
          "target", [](const Plan& p) { return std::string(p.target); }, "Library of the result.")
      .def_readonly("bytes_read", &Plan::bytes_read, "Bytes read by all steps.")
      .def_readonly("bytes_written", &Plan::bytes_written, "Bytes written by all steps.")
      .def_readonly("bytes_wire", &Plan::bytes_wire, "Bytes over a bus to another device.")
      .def_property_readonly(
          "device", [](const Plan& p) { return to_string(p.device); }, "Where the result is, e.g. 'cpu' or 'cuda:0'.")
      .def_readonly("because", &Plan::because,
                    "Of transfers: why it is done on this side of the wire, with the figures that decided; else ''.")
      .def_readonly("machine", &Plan::machine,
                    "Of transfers: where those figures come from, 'assumed ...' or 'measured ...'; else ''.")
      .def_readonly("unavailable", &Plan::unavailable, "Why it cannot be done on this machine; '' where it can.")
      .def(
          "to_dict", [](const Plan& p) { return dict_of(p); }, "The plan as a JSON-serialisable dict.")
      .def("__str__", [](const Plan& p) { return to_string(p); })
      .def("__repr__", [](const Plan& p) {
        return "<halfway.Plan: " + to_string(p.from) + " -> " + std::string(p.target) + " " + to_string(p.to) +
               (p.bytes_wire > 0      ? ", " + std::to_string(p.bytes_wire) + " B over the wire>"
                : p.zero_copy         ? ", zero-copy>"
                : p.steps.size() == 1 ? ", one pass>"
                                      : ", two passes>");
      });
  set_public_name(step.ptr(), "halfway.Step");
  set_public_name(plan.ptr(), "halfway.Plan");
}

}  // namespace halfway::python
