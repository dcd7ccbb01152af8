// Plans of exchanges in which a device takes part: why nothing is shared, where the result is, and the steps of the
// transfer. What transfers do is the matter of tests/cuda/.
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "halfway/plan.h"

namespace {

using halfway::Copy;
using halfway::Device;
using halfway::DeviceType;
using halfway::Error;
using halfway::Machine;
using halfway::Plan;
using halfway::Reason;
using halfway::StepKind;
using halfway::TensorView;
using halfway::Wish;

constexpr Device cpu{};
constexpr Device cuda_0{DeviceType::cuda, 0};
constexpr Device cuda_1{DeviceType::cuda, 1};

constexpr std::array<std::int64_t, 2> shape{400, 300};
constexpr std::array<std::int64_t, 2> strides{300, 1};

// Nothing reads the memory.
TensorView on(Device device) {
  static const float memory = 0;
  return {.data = &memory, .dtype = halfway::float32, .device = device, .shape = shape, .strides = strides};
}

Wish to(Device device, std::optional<halfway::DType> dtype = std::nullopt) {
  Wish wish;
  wish.target = {.name = "halfway"};
  wish.device = device;
  wish.dtype = dtype;
  return wish;
}

}  // namespace

BOOST_AUTO_TEST_CASE(memory_is_shared_where_it_stays) {
  for (const Device device : {cpu, cuda_0, cuda_1}) {
    const Plan plan = halfway::plan(on(device), {}, to(device));
    BOOST_TEST(plan.zero_copy);
    BOOST_TEST((plan.device == device));
    BOOST_TEST((plan.steps.size() == 1 && plan.steps.front().kind == StepKind::alias));
  }
  // The host's memory is one, however it was allocated.
  BOOST_TEST(halfway::plan(on({DeviceType::cuda_host, 0}), {}, to(cpu)).zero_copy);
  BOOST_TEST(halfway::plan(on({DeviceType::cuda_managed, 0}), {}, to(cpu)).zero_copy);
}

BOOST_AUTO_TEST_CASE(another_memory_is_a_reason) {
  const std::vector<std::pair<Device, Device>> ways{{cpu, cuda_0}, {cuda_0, cpu}, {cuda_0, cuda_1}};
  for (const auto& way : ways) {
    const Device from = way.first;
    const Device where = way.second;
    Wish wish = to(where, halfway::bfloat16);
    const Plan plan = halfway::plan(on(from), {}, wish);
    BOOST_TEST(!plan.zero_copy);
    BOOST_TEST((plan.reasons == std::vector{Reason::dtype, Reason::device}));
    BOOST_TEST((plan.device == where));
    BOOST_TEST(plan.steps.empty());  // the transfer's to say
    wish.copy = Copy::never;
    BOOST_CHECK_EXCEPTION(static_cast<void>(halfway::plan(on(from), {}, wish)), Error, [&](const Error& error) {
      return error.reasons().size() == 2 && error.message().find(halfway::to_string(where)) != std::string::npos &&
             error.message().find(halfway::to_string(from)) != std::string::npos;
    });
  }
}

BOOST_AUTO_TEST_CASE(device_memory_is_refused_where_no_device_is_wished_for) {
  Wish wish = to(cpu);
  wish.device.reset();
  BOOST_CHECK_EXCEPTION(static_cast<void>(halfway::plan(on(cuda_0), {}, wish)), Error,
                        [](const Error& error) { return error.reason() == Reason::device; });
}

BOOST_AUTO_TEST_CASE(the_transfers_steps_and_words_are_the_plans) {
  const TensorView source = on(cpu);
  Plan plan = halfway::plan(source, {}, to(cuda_1, halfway::bfloat16));
  Machine machine;
  const halfway::TransferPlan transfer = plan_transfer(source, {.to = halfway::bfloat16}, machine);
  add_transfer(plan, transfer, machine);
  BOOST_TEST(plan.bytes_wire == 240'000U);
  BOOST_TEST(plan.steps.size() == transfer.steps.size());
  BOOST_TEST(plan.bytes_read == 480'000U + 240'000U);
  BOOST_TEST(plan.bytes_written == 240'000U + 240'000U);
  BOOST_TEST(to_string(plan) ==
             "float32 (400, 300) -> halfway bfloat16 on cuda:1: 240000 B over the wire\n"
             "  because   dtype, device\n"
             "  cast      float32 -> bfloat16, on the host, into pinned slots, reads 480000 B, writes 240000 B\n"
             "  ship      bfloat16, 1 copy by a copy engine, reads 240000 B, writes 240000 B\n"
             "  chosen    host_cast: the host has to copy pageable memory, and casts on the way\n"
             "  figures   assumed, not measured on this machine");
  machine.assumed = false;
  machine.measured = "2026-01-02";
  Plan measured = halfway::plan(source, {}, to(cuda_1, halfway::bfloat16));
  add_transfer(measured, transfer, machine);
  measured.unavailable = "there is no driver";
  BOOST_TEST(to_string(measured).ends_with("  figures   measured 2026-01-02\n  not here  there is no driver"));
}

BOOST_AUTO_TEST_CASE(devices_by_name) {
  BOOST_TEST(halfway::to_string(cpu) == "cpu");
  BOOST_TEST(halfway::to_string(cuda_1) == "cuda:1");
  BOOST_TEST(halfway::to_string(Device{DeviceType::cuda_host, 0}) == "cuda_host");
  BOOST_TEST(halfway::to_string(Device{static_cast<DeviceType>(8), 3}) == "8:3");
}
