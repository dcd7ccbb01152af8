// The closed vocabulary of reasons, and what an error says.
#include <boost/test/unit_test.hpp>

#include <array>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "halfway/error.h"

namespace {

using halfway::Error;
using halfway::Reason;

static_assert(std::is_base_of_v<std::runtime_error, Error>);

// The spelling that users see, in the order in which several reasons are given.
constexpr std::array<std::string_view, 28> vocabulary{"dtype",
                                                      "byte_order",
                                                      "device",
                                                      "negative_strides",
                                                      "fractional_strides",
                                                      "misaligned",
                                                      "readonly",
                                                      "copy_requested",
                                                      "permute",
                                                      "affine",
                                                      "unsupported_dtype",
                                                      "requires_grad",
                                                      "conj",
                                                      "neg",
                                                      "sparse",
                                                      "nested",
                                                      "quantized",
                                                      "subclass",
                                                      "no_storage",
                                                      "masked",
                                                      "overlap",
                                                      "out_mismatch",
                                                      "stream",
                                                      "capturing",
                                                      "version",
                                                      "malformed",
                                                      "consumed",
                                                      "unavailable"};

BOOST_AUTO_TEST_SUITE(error)

BOOST_AUTO_TEST_CASE(the_vocabulary) {
  BOOST_TEST_REQUIRE(vocabulary.size() == static_cast<std::size_t>(halfway::reason_count));
  std::set<std::string_view> sentences;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto reason = static_cast<Reason>(i);
    BOOST_TEST(to_string(reason) == vocabulary[i]);
    const std::string_view sentence = describe(reason);
    BOOST_TEST(!sentence.ends_with('.'));
    BOOST_TEST(sentences.insert(sentence).second);
  }
  BOOST_TEST(to_string(Reason::unavailable) == "unavailable");
}

BOOST_AUTO_TEST_CASE(what_is_no_reason_has_a_text_all_the_same) {
  BOOST_TEST(to_string(static_cast<Reason>(200)) == "unknown");
  BOOST_TEST(!describe(static_cast<Reason>(200)).empty());
}

BOOST_AUTO_TEST_CASE(one_reason) {
  const Error error(Reason::readonly, "the source is read-only", "copy it");
  BOOST_TEST((error.reason() == Reason::readonly));
  BOOST_TEST(error.reasons().size() == 1U);
  BOOST_TEST(error.message() == "the source is read-only");
  BOOST_TEST(error.hint() == "copy it");
  BOOST_TEST(std::string(error.what()) == "readonly: the source is read-only; copy it");
}

BOOST_AUTO_TEST_CASE(several_reasons_and_no_hint) {
  const Error error({Reason::dtype, Reason::misaligned, Reason::conj}, "no");
  BOOST_TEST((error.reason() == Reason::dtype));
  BOOST_TEST(error.reasons().size() == 3U);
  BOOST_TEST((error.reasons()[2] == Reason::conj));
  BOOST_TEST(error.hint().empty());
  BOOST_TEST(std::string(error.what()) == "dtype, misaligned, conj: no");
}

BOOST_AUTO_TEST_CASE(travels_as_an_exception) {
  try {
    try {
      throw Error({Reason::dtype, Reason::neg}, "message", "hint");
    } catch (const std::runtime_error& error) {
      BOOST_TEST(std::string(error.what()) == "dtype, neg: message; hint");
      throw;
    }
  } catch (const Error& error) {
    const Error copy = error;  // NOLINT(performance-unnecessary-copy-initialization): copied as exceptions are
    BOOST_TEST((copy.reasons()[1] == Reason::neg));
    BOOST_TEST(copy.hint() == "hint");
    BOOST_TEST(std::string(copy.what()) == error.what());
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
