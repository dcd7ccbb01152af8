// main() of every C++ test executable. The tests themselves only include <boost/test/unit_test.hpp>.
#define BOOST_TEST_MODULE halfway
#if defined(HALFWAY_BOOST_INCLUDED)
#include <boost/test/included/unit_test.hpp>
#else
#include <boost/test/unit_test.hpp>
#endif
