/* aiter_c._C: the functions that are no ops, and what an instance of the module makes and frees. */
#include "argparse.h"
#include "allocate.h"
#include "array.h"
#include "call.h"
#include "array_docs.h"
#include "docs.h"
#include "environment.h"
#include "errors.h"
#include "exchange.h"
#include "interrupt.h"
#include "log.h"
#include "plan.h"
#include "py_info.h"

#define WITH_ARGUMENTS(name)                                                                                           \
    {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL | METH_KEYWORDS, AC_DOC_##name}
#define WITHOUT_ARGUMENTS(name) {#name, py_##name, METH_NOARGS, AC_DOC_##name}

static PyMethodDef methods[] = {
    WITH_ARGUMENTS(load_plan),
    WITH_ARGUMENTS(set_allocator),
    WITH_ARGUMENTS(empty),
    WITH_ARGUMENTS(from_host),
    WITH_ARGUMENTS(set_num_threads),
    WITHOUT_ARGUMENTS(get_num_threads),
    WITHOUT_ARGUMENTS(cpu_arch),
    WITHOUT_ARGUMENTS(build_info),
    WITHOUT_ARGUMENTS(runtime_info),
    WITHOUT_ARGUMENTS(environment),
    WITHOUT_ARGUMENTS(kernel_table),
    WITHOUT_ARGUMENTS(code_objects),
    WITHOUT_ARGUMENTS(op_table),
    WITHOUT_ARGUMENTS(plan_table),
    WITHOUT_ARGUMENTS(cpu_ceilings),
    WITH_ARGUMENTS(dlpack_path),
    WITH_ARGUMENTS(tensor_shape),
    WITH_ARGUMENTS(set_call_observer),
    {0},
};

/* NumPy's C API lives in the main interpreter only; under the limited API of 3.11 no slot says so. */
static int refuse_subinterpreter(void) {
    int64_t id = PyInterpreterState_GetID(PyInterpreterState_Get());
    if (id == 0) return 0;
    if (id > 0) PyErr_SetString(PyExc_ImportError, "aiter_c._C cannot be loaded in a subinterpreter");
    return -1;
}

static int intern(PyObject **out_name, const char *text) {
    *out_name = PyUnicode_InternFromString(text);
    return *out_name ? 0 : -1;
}

static int add_type(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **out_type) {
    *out_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *out_type ? PyModule_AddObjectRef(module, name, (PyObject *)*out_type) : -1;
}

static int module_exec(PyObject *module) {
    ac_state_t *state = ac_state(module);
    if (refuse_subinterpreter() < 0) return -1;
    if (ac_signatures_init(state) < 0) return -1;
    if (intern(&state->str_dlpack, "__dlpack__") < 0) return -1;
    if (intern(&state->str_dlpack_device, "__dlpack_device__") < 0) return -1;
    if (intern(&state->str_max_version, "max_version") < 0) return -1;
    if (intern(&state->str_stream, "stream") < 0) return -1;
    if (intern(&state->str_shape, "shape") < 0) return -1;
    if (intern(&state->str_is_neg, "is_neg") < 0) return -1;
    if (intern(&state->str_is_conj, "is_conj") < 0) return -1;
    if (intern(&state->str_requires_grad, "requires_grad") < 0) return -1;
    state->max_version = Py_BuildValue("(ii)", DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION);
    if (!state->max_version) return -1;
    if (ac_errors_init(state, module) < 0) return -1;
    if (add_type(module, &ac_array_spec, "Array", &state->array_type) < 0) return -1;
    if (ac_plans_init(state, module) < 0 || ac_calls_init(state, module) < 0) return -1;
    ac_interrupt_init();
    return ac_environment_init(state);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    ac_state_t *state = ac_state(module);
    if (!state) return 0;
    Py_VISIT(state->unsupported_error);
    Py_VISIT(state->device_error);
    Py_VISIT(state->array_type);
    for (int i = 0; i < AC_MAX_PLAN_KINDS; i++) Py_VISIT(state->plan_types[i]);
    Py_VISIT(state->allocate);
    Py_VISIT(state->allocator);
    Py_VISIT(state->observer);
    Py_VISIT(state->max_version);
    Py_VISIT(state->torch_increment_version);
    return ac_exchange_traverse(state, visit, arg);
}

static int module_clear(PyObject *module) {
    ac_state_t *state = ac_state(module);
    if (!state) return 0;
    ac_exchange_clear(state);
    ac_signatures_clear(state);
    Py_CLEAR(state->unsupported_error);
    Py_CLEAR(state->device_error);
    Py_CLEAR(state->array_type);
    for (int i = 0; i < AC_MAX_PLAN_KINDS; i++) Py_CLEAR(state->plan_types[i]);
    Py_CLEAR(state->allocate);
    Py_CLEAR(state->allocator);
    Py_CLEAR(state->observer);
    Py_CLEAR(state->str_dlpack);
    Py_CLEAR(state->str_dlpack_device);
    Py_CLEAR(state->str_max_version);
    Py_CLEAR(state->str_stream);
    Py_CLEAR(state->str_shape);
    Py_CLEAR(state->str_is_neg);
    Py_CLEAR(state->str_is_conj);
    Py_CLEAR(state->str_requires_grad);
    Py_CLEAR(state->torch_increment_version);
    Py_CLEAR(state->max_version);
    return 0;
}

static void module_free(void *module) { module_clear(module); }

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_USED}, /* the type cache has no lock */
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,         .m_name = "aiter_c._C",  .m_doc = AC_DOC_module,
    .m_size = sizeof(ac_state_t),  .m_methods = methods,    .m_slots = slots,
    .m_traverse = module_traverse, .m_clear = module_clear, .m_free = module_free,
};

PyMODINIT_FUNC PyInit__C(void);
PyMODINIT_FUNC PyInit__C(void) { return PyModuleDef_Init(&definition); }
