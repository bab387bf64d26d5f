/* The complex functions of C99, which Wine 8's ucrtbase.dll declares and does not have; NumPy and torch import them.
 * make_ucrtbase.py puts them before Wine's own functions. Microsoft passes complex numbers as structs of two, and its long
 * double is a double. */
#include <complex.h>

typedef struct {
    float re, im;
} Single;
typedef struct {
    double re, im;
} Double;

static double complex from_double(Double z) {
    double complex value = z.re;
    __imag__ value = z.im;
    return value;
}

static Double to_double(double complex z) {
    return (Double){creal(z), cimag(z)};
}

static double complex from_single(Single z) {
    return from_double((Double){z.re, z.im});
}

static Single to_single(double complex z) {
    return (Single){(float)creal(z), (float)cimag(z)};
}

#define COMPLEX(name)                                                                                                  \
    Double our_##name(Double z) { return to_double(name(from_double(z))); }                                            \
    Double our_##name##l(Double z) { return to_double(name(from_double(z))); }                                         \
    Single our_##name##f(Single z) { return to_single(name(from_single(z))); }
#define REAL(name)                                                                                                     \
    double our_##name(Double z) { return name(from_double(z)); }                                                       \
    double our_##name##l(Double z) { return name(from_double(z)); }                                                    \
    float our_##name##f(Single z) { return (float)name(from_single(z)); }

COMPLEX(ccos)
COMPLEX(ccosh)
COMPLEX(cexp)
COMPLEX(csin)
COMPLEX(csinh)
COMPLEX(ctan)
COMPLEX(ctanh)
REAL(cabs)
REAL(carg)
REAL(cimag)
REAL(creal)
Double our_cpow(Double a, Double b) { return to_double(cpow(from_double(a), from_double(b))); }
Double our_cpowl(Double a, Double b) { return to_double(cpow(from_double(a), from_double(b))); }
Single our_cpowf(Single a, Single b) { return to_single(cpow(from_single(a), from_single(b))); }
