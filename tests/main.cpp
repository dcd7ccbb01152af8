// main() of every C++ test executable. The tests themselves only include <boost/test/unit_test.hpp>.
#define BOOST_TEST_MODULE halfway
#include <boost/test/unit_test.hpp>
