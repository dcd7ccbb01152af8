# Install rules of the C++ part (component `development`), relocatable and DESTDIR-safe.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(halfway_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/halfway")

# halfway_install_component(<component> <directory of headers>): the target halfway_<component>, by its exported name, and
# its headers.
function(halfway_install_component component headers)
  install(TARGETS halfway_${component} EXPORT halfway-${component}
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
    RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT development
    INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(DIRECTORY "${headers}/halfway"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT development
    FILES_MATCHING PATTERN "*.h")
  install(EXPORT halfway-${component}
    FILE halfway-${component}-targets.cmake NAMESPACE halfway::
    DESTINATION "${halfway_cmake_dir}" COMPONENT development)
endfunction()

halfway_install_component(runtime "${PROJECT_SOURCE_DIR}/runtime/include")
set(halfway_components runtime)
# Headers, compiled by their users against a libtorch and a pybind11 of their own.
foreach(adapter IN ITEMS torch pybind11)
  halfway_install_component(${adapter} "${PROJECT_SOURCE_DIR}/bindings/cpp/include")
  list(APPEND halfway_components ${adapter})
endforeach()
# The component cuda is there where its backend is.
if(HALFWAY_HAS_CUDA)
  halfway_install_component(cuda "${PROJECT_SOURCE_DIR}/cuda/include")
  list(APPEND halfway_components cuda)
endif()

configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/halfwayConfig.cmake.in" "${PROJECT_BINARY_DIR}/halfwayConfig.cmake"
  INSTALL_DESTINATION "${halfway_cmake_dir}"
  NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
# Before 1.0 a minor release may break: SameMinorVersion.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/halfwayConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/halfwayConfig.cmake" "${PROJECT_BINARY_DIR}/halfwayConfigVersion.cmake"
  DESTINATION "${halfway_cmake_dir}" COMPONENT development)

# pkg-config: the prefix is told relative to the file, so that a moved tree still works.
set(halfway_pkgconfig_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(halfway_pkgconfig_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH halfway_pkgconfig_up "/${halfway_pkgconfig_dir}" "/")
  string(REGEX REPLACE "/$" "" halfway_pkgconfig_up "${halfway_pkgconfig_up}")
  set(halfway_pkgconfig_prefix "\${pcfiledir}/${halfway_pkgconfig_up}")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(halfway_pkgconfig_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
else()
  set(halfway_pkgconfig_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(halfway_pkgconfig_libdir "${CMAKE_INSTALL_LIBDIR}")
else()
  set(halfway_pkgconfig_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
# A static archive leaves the C++ library and threads to whoever links it.
if(BUILD_SHARED_LIBS)
  set(halfway_pkgconfig_libs "-L\${libdir} -lhalfway_runtime")
  set(halfway_pkgconfig_libs_private "")
else()
  set(halfway_pkgconfig_libs "-L\${libdir} -lhalfway_runtime -pthread")
  set(halfway_pkgconfig_libs_private "-lstdc++ -lm")
endif()
configure_file("${PROJECT_SOURCE_DIR}/cmake/halfway-runtime.pc.in" "${PROJECT_BINARY_DIR}/halfway-runtime.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/halfway-runtime.pc"
  DESTINATION "${halfway_pkgconfig_dir}" COMPONENT development)
