/* core.iconvsr for VapourSynth: registers the functions and passes every call on to vs_iconvsr.plugin.
 *
 * No mathematics and no static state. Not linked to libpython: Python itself, or the libpython that VSScript opened,
 * has the symbols. Only Python's functions are used, never its data (Py_None, PyExc_*, types): functions are bound at
 * the first call, but data when the file is opened. So the file opens in any process. Built on the stable ABI.
 *
 * On Python's side a filter is one object with the attribute output = (format id, width, height, whether the planes are
 * those of source frame n) and these methods, each called with the GIL held:
 *   start(n) -> [frame numbers to request]         a request begins; may run on several threads at once
 *   take(number, planes, properties, user_data)    a requested source frame has arrived
 *   more(n) -> [frame numbers to request]          a whole round has arrived; empty when n can be made
 *   finish(n) -> (hr, user_data, changes)          waits, without the GIL, until hr frame n is ready
 *   write(hr, planes)                              copies hr into a fresh frame
 *   abandon(n)                                     the request ended without a frame
 *   close()                                        the node is gone
 * Planes are (memoryview, width, height, stride in bytes); user_data is an opaque copy of a frame's
 * properties; changes are {property: int, or None to delete it}.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030C0000
#include <Python.h>

#ifdef _WIN32
#include <windows.h>
#include <psapi.h>
#else
#include <dlfcn.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "VapourSynth4.h"
#include "signature.h" /* UPSCALE_ARGUMENTS, SCENE_DETECT_ARGUMENTS: written by vs_iconvsr/options.py */

typedef struct {
    const char *name; /* of the function, static */
    VSNode *node;     /* ours: freed with the filter */
    VSVideoInfo vi;   /* of our output */
    PyObject *filter; /* ours: released under the GIL */
    int keeps_planes; /* the output is source frame n with other properties */
} Filter;

/* The frame numbers of one round of requests; hangs on VapourSynth's frameData and is freed when the round is over. */
typedef struct {
    int count;
    int numbers[];
} Round;

enum { ERROR_BYTES = 2048 };

/* ---- Python helpers: all need the GIL ---- */

/* The text of the raised exception, which is cleared. */
static void take_error(const char *function, char *text) {
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *message = raised ? PyObject_Str(raised) : NULL;
    PyObject *bytes = message ? PyUnicode_AsEncodedString(message, "utf-8", "backslashreplace") : NULL;
    const char *reason = bytes ? PyBytes_AsString(bytes) : NULL;
    snprintf(text, ERROR_BYTES, "%s: %s", function, reason && *reason ? reason : "an exception without a message");
    Py_XDECREF(bytes);
    Py_XDECREF(message);
    Py_XDECREF(raised);
    PyErr_Clear();
}

static int is_none(PyObject *object) {
    PyObject *none = Py_BuildValue("");
    int same = object == none;
    Py_XDECREF(none);
    return same;
}

/* A list of ints → a Round that the caller frees; NULL with an exception set, or NULL without one for an empty list. */
static Round *round_from(PyObject *list) {
    Py_ssize_t count = PyList_Size(list);
    if (count <= 0)
        return NULL;
    Round *round = malloc(sizeof *round + (size_t)count * sizeof(int));
    if (!round) {
        PyErr_NoMemory();
        return NULL;
    }
    round->count = (int)count;
    for (Py_ssize_t i = 0; i < count; i++)
        round->numbers[i] = (int)PyLong_AsLong(PyList_GetItem(list, i));
    if (PyErr_Occurred()) {
        free(round);
        return NULL;
    }
    return round;
}

static PyObject *planes_of(const VSFrame *frame, int writable, const VSAPI *vsapi) {
    int count = vsapi->getVideoFrameFormat(frame)->numPlanes;
    PyObject *planes = PyList_New(0);
    for (int p = 0; planes && p < count; p++) {
        Py_ssize_t stride = (Py_ssize_t)vsapi->getStride(frame, p);
        int width = vsapi->getFrameWidth(frame, p), height = vsapi->getFrameHeight(frame, p);
        char *data = writable ? (char *)vsapi->getWritePtr((VSFrame *)frame, p) : (char *)vsapi->getReadPtr(frame, p);
        PyObject *view = PyMemoryView_FromMemory(data, stride * height, writable ? PyBUF_WRITE : PyBUF_READ);
        PyObject *plane = view ? Py_BuildValue("(Niin)", view, width, height, stride) : NULL;
        if (!plane || PyList_Append(planes, plane) < 0) {
            Py_DECREF(planes);
            planes = NULL;
        }
        Py_XDECREF(plane);
    }
    return planes;
}

/* One value of a map: int, float or str; None for kinds that Python has no use for. */
static PyObject *map_value(const VSMap *map, const char *key, int index, const VSAPI *vsapi) {
    switch (vsapi->mapGetType(map, key)) {
    case ptInt:
        return PyLong_FromLongLong(vsapi->mapGetInt(map, key, index, NULL));
    case ptFloat:
        return PyFloat_FromDouble(vsapi->mapGetFloat(map, key, index, NULL));
    case ptData:
        return PyUnicode_DecodeUTF8(vsapi->mapGetData(map, key, index, NULL),
                                    vsapi->mapGetDataSize(map, key, index, NULL), "surrogateescape");
    default:
        return Py_BuildValue("");
    }
}

/* {key: [values]} of a map. */
static PyObject *map_dict(const VSMap *map, const VSAPI *vsapi) {
    PyObject *dict = PyDict_New();
    int keys = vsapi->mapNumKeys(map);
    for (int k = 0; dict && k < keys; k++) {
        const char *key = vsapi->mapGetKey(map, k);
        PyObject *values = PyList_New(0);
        int count = vsapi->mapNumElements(map, key), failed = !values;
        for (int i = 0; !failed && i < count; i++) {
            PyObject *value = map_value(map, key, i, vsapi);
            failed = !value || PyList_Append(values, value) < 0;
            Py_XDECREF(value);
        }
        if (failed || PyDict_SetItemString(dict, key, values) < 0) {
            Py_DECREF(dict);
            dict = NULL;
        }
        Py_XDECREF(values);
    }
    return dict;
}

static const char USER_DATA[] = "vs_iconvsr.user_data";

static void free_user_data(PyObject *capsule) {
    const VSAPI *vsapi = PyCapsule_GetContext(capsule);
    vsapi->freeMap(PyCapsule_GetPointer(capsule, USER_DATA));
}

static PyObject *user_data_of(const VSMap *properties, const VSAPI *vsapi) {
    VSMap *copy = vsapi->createMap();
    vsapi->copyMap(properties, copy);
    PyObject *capsule = PyCapsule_New(copy, USER_DATA, free_user_data);
    if (!capsule)
        vsapi->freeMap(copy);
    else
        PyCapsule_SetContext(capsule, (void *)vsapi);
    return capsule;
}

/* 0 on success, -1 with an exception set. */
static int change_properties(VSFrame *frame, PyObject *changes, const VSAPI *vsapi) {
    VSMap *properties = vsapi->getFramePropertiesRW(frame);
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(changes, &at, &key, &value);) {
        PyObject *name = PyUnicode_AsUTF8String(key);
        if (!name)
            return -1;
        if (is_none(value))
            vsapi->mapDeleteKey(properties, PyBytes_AsString(name));
        else
            vsapi->mapSetInt(properties, PyBytes_AsString(name), PyLong_AsLongLong(value), maReplace);
        Py_DECREF(name);
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* ---- log(level, text) for Python: the core's own message channel ---- */

static const char LOG[] = "vs_iconvsr.log";

static PyObject *log_message(PyObject *self, PyObject *args) {
    int level;
    const char *text;
    VSCore *core = PyCapsule_GetPointer(self, LOG);
    const VSAPI *vsapi = core ? PyCapsule_GetContext(self) : NULL;
    if (!vsapi || !PyArg_ParseTuple(args, "is", &level, &text))
        return NULL;
    PyThreadState *state = PyEval_SaveThread(); /* a handler written in Python needs the GIL, on whatever thread */
    vsapi->logMessage(level, text, core);
    PyEval_RestoreThread(state);
    return Py_BuildValue("");
}

static PyMethodDef LOG_METHOD = {"log", log_message, METH_VARARGS, NULL};

static PyObject *log_function(VSCore *core, const VSAPI *vsapi) {
    PyObject *self = PyCapsule_New(core, LOG, NULL);
    if (!self)
        return NULL;
    PyCapsule_SetContext(self, (void *)vsapi);
    PyObject *function = PyCFunction_NewEx(&LOG_METHOD, self, NULL);
    Py_DECREF(self);
    return function;
}

/* ---- frames ---- */

/* Asks VapourSynth for a round of frames. Owns and stores the round. */
static void request(Round *round, Filter *d, void **frame_data, VSFrameContext *context, const VSAPI *vsapi) {
    *frame_data = round;
    for (int i = 0; i < round->count; i++)
        vsapi->requestFrameFilter(round->numbers[i], d->node, context);
}

/* Passes on the frames of a finished round; 0 on success, -1 with an exception set. Needs the GIL. */
static int take_round(const Round *round, Filter *d, VSFrameContext *context, const VSAPI *vsapi) {
    for (int i = 0; i < round->count; i++) {
        const VSFrame *frame = vsapi->getFrameFilter(round->numbers[i], d->node, context);
        const VSMap *properties = vsapi->getFramePropertiesRO(frame);
        PyObject *planes = planes_of(frame, 0, vsapi);
        PyObject *dict = planes ? map_dict(properties, vsapi) : NULL;
        PyObject *user_data = dict ? user_data_of(properties, vsapi) : NULL;
        PyObject *taken =
            user_data ? PyObject_CallMethod(d->filter, "take", "iOOO", round->numbers[i], planes, dict, user_data) : NULL;
        Py_XDECREF(user_data);
        Py_XDECREF(dict);
        Py_XDECREF(planes);
        vsapi->freeFrame(frame);
        if (!taken)
            return -1;
        Py_DECREF(taken);
    }
    return 0;
}

/* hr frame n as VapourSynth's; NULL with an exception set. Needs the GIL. */
static VSFrame *deliver(int n, Filter *d, VSFrameContext *context, VSCore *core, const VSAPI *vsapi) {
    PyObject *hr, *user_data, *changes, *planes = NULL;
    PyObject *finished = PyObject_CallMethod(d->filter, "finish", "i", n);
    if (!finished || !PyArg_ParseTuple(finished, "OOO", &hr, &user_data, &changes)) {
        Py_XDECREF(finished);
        return NULL;
    }
    VSFrame *frame;
    if (d->keeps_planes) {
        const VSFrame *source = vsapi->getFrameFilter(n, d->node, context);
        frame = vsapi->copyFrame(source, core);
        vsapi->freeFrame(source);
    } else {
        frame = vsapi->newVideoFrame(&d->vi.format, d->vi.width, d->vi.height, NULL, core);
        vsapi->copyMap(PyCapsule_GetPointer(user_data, USER_DATA), vsapi->getFramePropertiesRW(frame));
        planes = planes_of(frame, 1, vsapi);
        PyObject *written = planes ? PyObject_CallMethod(d->filter, "write", "OO", hr, planes) : NULL;
        Py_XDECREF(written);
        Py_XDECREF(planes);
    }
    if (PyErr_Occurred() || change_properties(frame, changes, vsapi) < 0) {
        vsapi->freeFrame(frame);
        frame = NULL;
    }
    Py_DECREF(finished);
    return frame;
}

/* The request has ended without a frame: Python need no longer keep what it was waiting for. */
static void abandon(int n, Filter *d) {
    PyObject *done = PyObject_CallMethod(d->filter, "abandon", "i", n);
    if (!done)
        PyErr_Clear();
    Py_XDECREF(done);
}

static const VSFrame *VS_CC get_frame(int n, int reason, void *instance, void **frame_data, VSFrameContext *context,
                                      VSCore *core, const VSAPI *vsapi) {
    Filter *d = instance;
    Round *asked = *frame_data, *next = NULL;
    VSFrame *frame = NULL;
    char error[ERROR_BYTES] = "";
    PyGILState_STATE gil = PyGILState_Ensure();

    if (reason == arError) {
        abandon(n, d);
    } else if (reason == arInitial || take_round(asked, d, context, vsapi) == 0) {
        PyObject *numbers = PyObject_CallMethod(d->filter, reason == arInitial ? "start" : "more", "i", n);
        next = numbers ? round_from(numbers) : NULL;
        Py_XDECREF(numbers);
        if (!next && !PyErr_Occurred())
            frame = deliver(n, d, context, core, vsapi);
    }
    if (PyErr_Occurred()) {
        take_error(d->name, error);
        abandon(n, d);
    }
    PyGILState_Release(gil);
    free(asked);
    *frame_data = NULL;
    if (next)
        request(next, d, frame_data, context, vsapi);
    else if (*error)
        vsapi->setFilterError(error, context);
    return frame;
}

/* Ends a filter of Python's, which has threads, and lets it go. Needs the GIL. */
static void close_filter(PyObject *filter) {
    PyObject *closed = PyObject_CallMethod(filter, "close", NULL);
    if (!closed)
        PyErr_Clear();
    Py_XDECREF(closed);
    Py_DECREF(filter);
}

static void VS_CC free_filter(void *instance, VSCore *core, const VSAPI *vsapi) {
    Filter *d = instance;
    (void)core;
    if (Py_IsInitialized()) { /* a core that outlives the interpreter has nothing left to release there */
        PyGILState_STATE gil = PyGILState_Ensure();
        close_filter(d->filter);
        PyGILState_Release(gil);
    }
    vsapi->freeNode(d->node);
    free(d);
}

/* ---- functions ---- */

/* vs_iconvsr.plugin, which imports torch; how torch's threads wait is set before that. Needs the GIL. */
static PyObject *import_plugin(void) {
    PyObject *openmp = PyImport_ImportModule("vs_iconvsr.openmp");
    PyObject *done = openmp ? PyObject_CallMethod(openmp, "let_threads_sleep", NULL) : NULL;
    PyObject *module = done ? PyImport_ImportModule("vs_iconvsr.plugin") : NULL;
    Py_XDECREF(done);
    Py_XDECREF(openmp);
    return module;
}

/* vs_iconvsr.plugin.call(function, clip, arguments, threads, log); needs the GIL. */
static PyObject *call_plugin(const char *function, VSNode *node, const VSMap *in, VSCore *core, const VSAPI *vsapi) {
    VSCoreInfo info;
    vsapi->getCoreInfo(core, &info);
    PyObject *module = import_plugin();
    PyObject *arguments = module ? map_dict(in, vsapi) : NULL;
    PyObject *log = arguments ? log_function(core, vsapi) : NULL;
    PyObject *clip = NULL, *result = NULL;
    if (log && node) {
        const VSVideoInfo *vi = vsapi->getVideoInfo(node);
        const VSVideoFormat *f = &vi->format;
        uint32_t id = vsapi->queryVideoFormatID(f->colorFamily, f->sampleType, f->bitsPerSample, f->subSamplingW,
                                                f->subSamplingH, core);
        clip = Py_BuildValue("(Iiii)", id, vi->width, vi->height, vi->numFrames);
    } else if (log) {
        clip = Py_BuildValue("");
    }
    if (clip)
        result = PyObject_CallMethod(module, "call", "sOOiO", function, clip, arguments, info.numThreads, log);
    Py_XDECREF(clip);
    Py_XDECREF(log);
    Py_XDECREF(arguments);
    Py_XDECREF(module);
    return result;
}

/* The format, size and kind of output that the Python filter gives; on failure the reason is in error. */
static void read_output(Filter *d, char *error, VSCore *core, const VSAPI *vsapi) {
    unsigned int id = 0;
    PyObject *output = PyObject_GetAttrString(d->filter, "output");
    if (!output || !PyArg_ParseTuple(output, "Iiip", &id, &d->vi.width, &d->vi.height, &d->keeps_planes))
        take_error(d->name, error);
    else if (!vsapi->getVideoFormatByID(&d->vi.format, id, core))
        snprintf(error, ERROR_BYTES, "%s: format: VapourSynth knows no format %u", d->name, id);
    Py_XDECREF(output);
}

#ifdef _WIN32
/* The stable ABI's python3.dll, for which our imports wait (delay-loaded), lies beside the interpreter's python3xx.dll,
 * which need not be on any search path: once it is loaded by its full path, its name alone finds it. Paths of any
 * length. Pins this file: Python's garbage may still hold our log function and user data when a core goes. */
static int find_python(void) {
    enum { MODULES = 1024, CHARACTERS = 32768 };
    static const wchar_t own[] = L"python3.dll";
    HMODULE modules[MODULES], pinned;
    DWORD bytes = 0;
    wchar_t *path = GetModuleHandleW(own) ? NULL : malloc((CHARACTERS + sizeof own) * sizeof *path);
    if (path && EnumProcessModules(GetCurrentProcess(), modules, sizeof modules, &bytes))
        for (DWORD i = 0; i < bytes / sizeof *modules && i < MODULES; i++) {
            DWORD length = GetModuleFileNameW(modules[i], path, CHARACTERS);
            wchar_t *name = length && length < CHARACTERS ? wcsrchr(path, L'\\') : NULL;
            if (name && !_wcsnicmp(name + 1, L"python3", 7) && GetProcAddress(modules[i], "Py_IsInitialized")) {
                wcscpy(name + 1, own);
                LoadLibraryW(path);
                break;
            }
        }
    free(path);
    GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                       (LPCWSTR)(void *)&find_python, &pinned);
    return GetModuleHandleW(own) != NULL;
}
#else
static int find_python(void) {
    return dlsym(RTLD_DEFAULT, "PyGILState_Ensure") != NULL;
}
#endif

/* Whether VSScript or Python has brought libpython into the process. If not, out gets the error. */
static int python_is_here(const char *function, VSMap *out, const VSAPI *vsapi) {
    char text[ERROR_BYTES];
    if (find_python() && Py_IsInitialized())
        return 1;
    snprintf(text, sizeof text, "%s: expected a process with Python in it, found none; run the script with vspipe", function);
    vsapi->mapSetError(out, text);
    return 0;
}

static void VS_CC create_filter(const VSMap *in, VSMap *out, void *user_data, VSCore *core, const VSAPI *vsapi) {
    const char *function = user_data;
    char error[ERROR_BYTES] = "";
    if (!python_is_here(function, out, vsapi))
        return;
    VSNode *node = vsapi->mapGetNode(in, "clip", 0, NULL);
    Filter filter = {.name = function, .node = node, .vi = *vsapi->getVideoInfo(node)};
    PyGILState_STATE gil = PyGILState_Ensure();
    filter.filter = call_plugin(function, node, in, core, vsapi);
    if (filter.filter)
        read_output(&filter, error, core, vsapi);
    else
        take_error(function, error);
    Filter *d = *error ? NULL : malloc(sizeof *d);
    if (!d && filter.filter)
        close_filter(filter.filter);
    PyGILState_Release(gil);
    if (!d) {
        vsapi->mapSetError(out, *error ? error : "out of memory");
        vsapi->freeNode(node);
        return;
    }
    *d = filter; /* from here on free_filter owns the node and the Python object */
    VSFilterDependency dependency = {node, rpGeneral};
    vsapi->createVideoFilter(out, function, &d->vi, get_frame, free_filter, fmParallelRequests, &dependency, 1, d, core);
}

/* Functions that return text instead of a clip: Python returns {key: [str, …]}. */
static void VS_CC answer(const VSMap *in, VSMap *out, void *user_data, VSCore *core, const VSAPI *vsapi) {
    const char *function = user_data;
    char error[ERROR_BYTES] = "";
    if (!python_is_here(function, out, vsapi))
        return;
    int no_clip;
    VSNode *node = vsapi->mapGetNode(in, "clip", 0, &no_clip);
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *result = call_plugin(function, node, in, core, vsapi);
    PyObject *key, *values;
    for (Py_ssize_t at = 0; result && PyDict_Next(result, &at, &key, &values);) {
        PyObject *name = PyUnicode_AsUTF8String(key);
        for (Py_ssize_t i = 0; name && i < PyList_Size(values); i++) {
            PyObject *text = PyUnicode_AsUTF8String(PyList_GetItem(values, i));
            if (text)
                vsapi->mapSetData(out, PyBytes_AsString(name), PyBytes_AsString(text), -1, dtUtf8, maAppend);
            Py_XDECREF(text);
        }
        Py_XDECREF(name);
    }
    if (PyErr_Occurred())
        take_error(function, error);
    Py_XDECREF(result);
    PyGILState_Release(gil);
    if (node)
        vsapi->freeNode(node);
    if (*error)
        vsapi->mapSetError(out, error);
}

VS_EXTERNAL_API(void) VapourSynthPluginInit2(VSPlugin *plugin, const VSPLUGINAPI *api) {
    api->configPlugin("org.vs_iconvsr.iconvsr", "iconvsr", "IconVSR and BasicVSR video super-resolution",
                      VS_MAKE_VERSION(VERSION_MAJOR, VERSION_MINOR), VAPOURSYNTH_API_VERSION, 0, plugin);
    api->registerFunction("Upscale", UPSCALE_ARGUMENTS, "clip:vnode;", create_filter, "Upscale", plugin);
    api->registerFunction("Plan", UPSCALE_ARGUMENTS, "json:data;", answer, "Plan", plugin);
    api->registerFunction("SceneDetect", SCENE_DETECT_ARGUMENTS, "clip:vnode;", create_filter, "SceneDetect", plugin);
    api->registerFunction("Models", "", "name:data[];description:data[];", answer, "Models", plugin);
    api->registerFunction("Version", "", "version:data;torch:data;devices:data[];", answer, "Version", plugin);
}
